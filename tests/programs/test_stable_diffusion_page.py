"""docs/stable-diffusion.md: its Python runs, its numbers hold, its reproductions reproduce.

On a tiny random pipeline in the place of the one that the page loads.
"""

import re
import runpy
import warnings
from pathlib import Path

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # these imports warn about packages that they can do without
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")

import tiny_sd

from guidance import negative_from
from guidance.stable_diffusion import log_snr, step_at

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "stable-diffusion.md").read_text()


@pytest.fixture(scope="module")
def made():
    """What all the page's blocks leave behind, run one after the other."""
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            diffusers.StableDiffusionPipeline, "from_pretrained", lambda name: tiny_sd.sd()
        )
        for block in re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL):
            exec(block, names)
    return names


def test_the_pages_python_runs(made):
    assert made["image"].shape == (1, 3, 16, 16) and made["image"].isfinite().all()
    assert made["step"].t == made["visited"][-1] == 2


def test_the_callback_by_hand_is_negative_from(made):
    pipe = made["pipe"]

    def end(k, way):
        options = {"num_inference_steps": 4, "output_type": "latent"}
        generator = torch.Generator().manual_seed(0)
        return pipe("a street", generator=generator, **options, **way(pipe, "cars", k)).images

    for k in (1, 3):
        assert torch.equal(end(k, made["by_hand"]), end(k, negative_from))
    assert not torch.equal(end(1, negative_from), end(3, negative_from))


def test_the_table_of_steps():
    rows = re.findall(r"^\| (?:nouns|adj\w+), (\d+) \| `(\w+)` \| −(\S+) \|(.+)\|$", PAGE, re.M)
    assert len(rows) == 4
    for k, spacing, value, steps in rows:
        scheduler = tiny_sd.ddim(timestep_spacing=spacing)
        found = [step_at(scheduler, S, -float(value)) for S in (20, 30, 50)]
        assert found == [int(step) for step in steps.split("|")] and found[1] == int(k)
        assert 0 <= log_snr(scheduler, 30)[int(k)] + float(value) < 0.01


def test_how_often_a_fraction_of_steps_loses_one():
    """int(start·N) of k/N."""
    pairs = [(k, N) for N in range(1, 101) for k in range(1, N + 1)]
    lost = sum(int(k / N * N) != k for k, N in pairs)
    assert f"in {lost} of the {len(pairs):,} fractions" in PAGE


def test_negative_prompt_embeds_are_dead(capsys):
    """If this fails, diffusers has mended it: say so on the page."""
    runpy.run_path(str(DOCS / "diffusers_negative_prompt_embeds.py"))
    dead, alive = re.findall(r"largest change (\S+)", capsys.readouterr().out)
    assert float(dead) == 0 < 1e-3 < float(alive)


def test_trailing_steps_to_other_times(capsys):
    """If this fails, diffusers has mended it: say so on the page."""
    runpy.run_path(str(DOCS / "diffusers_trailing.py"))
    found = re.findall(r"(\w+), (\d+) steps: .* misses by (\S+)", capsys.readouterr().out)
    misses = {(spacing, int(S)): float(miss) for spacing, S, miss in found}
    assert len(misses) == 6
    for exact in ("leading", 20), ("leading", 30), ("trailing", 20):
        assert misses.pop(exact) < 1e-5
    assert min(misses.values()) > 1e-3
