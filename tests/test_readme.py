"""The README: its links lead somewhere, its commands exist, its figures are the code's."""

import re
import shlex
from pathlib import Path

import pytest
from commands import PARSERS

from train.benchmark import __main__ as benchmark
from train.benchmark import growth, quality
from train.config import PRESETS
from train.experiments import __main__ as experiments
from train.experiments import results
from unet import UNet

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"python -m ((?:guidance|train)[^`\n#]*--[^`\n#]*)", TEXT)


@pytest.mark.parametrize("page", ["README.md", "docs/equations.md", "docs/mutants.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text())
    assert links or page != "README.md"
    for link in links:
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command):
    module, *flags = shlex.split(command)
    PARSERS[module]().parse_args(flags)  # exits with 2 where a flag does not exist


def test_there_are_commands():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize(
    ("shape", "claim"),
    [
        ({"size": 28, "channels": 1, **vars(PRESETS["mnist"])}, "1.5 M parameters"),
        ({"size": 32, "channels": 3, **vars(PRESETS["cifar10"])}, "7.8 M parameters"),
        ({"size": 32, "channels": 3, **vars(PRESETS["cifar10"]), "width": 136}, "35.0 M"),
    ],
)
def test_numbers_of_parameters(shape, claim):
    names = ("size", "channels", "width", "multipliers", "blocks", "attention")
    model = UNet(**{name: shape[name] for name in names})
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert claim.startswith(f"{millions:.1f} M") and claim in TEXT


@pytest.mark.parametrize("name", ["price-of-w", "classifier", "removal", "samplers"])
def test_tables_are_what_the_csv_files_say(name, capsys):
    """The README's tables are the lines that `--plot` prints, and that are not written by hand."""
    path = ROOT / "docs/results" / f"{name}.csv"
    rows = experiments.last_sweep(results.Results(path))
    for cells in experiments.EXPERIMENTS[name].table(rows):
        assert "| " + " | ".join(cells) + " |" in TEXT


def test_every_measured_file_has_its_plot_and_command():
    for path in (ROOT / "docs/results").glob("*.csv"):
        if path.stem in experiments.EXPERIMENTS:
            assert path.with_suffix(".png").exists() and f"docs/results/{path.stem}.png" in TEXT
            assert f"python -m train.experiments {path.stem} " in TEXT
        else:
            assert f"docs/results/{path.name}" in TEXT


@pytest.mark.parametrize(
    ("name", "table"),
    [("benchmark", benchmark.table), ("growth", growth.table), ("quality", quality.table)],
)
def test_the_benchmarks_tables_are_their_csv_files(name, table):
    rows = results.Results(ROOT / f"docs/results/{name}-cpu.csv").rows
    for cells in table(rows):
        assert "| " + " | ".join(cells) + " |" in TEXT
