"""docs/recipes.md: every block runs as it stands, and makes what its text says."""

import re
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from unet import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def made():
    """The names that the blocks leave behind, run one after the other from the root of a clone."""
    names = {"__name__": "recipes"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        torch.manual_seed(0)
        for block in BLOCKS:
            exec(compile(block, "docs/recipes.md", "exec"), names)
    return names


@pytest.fixture(scope="module")
def judge():
    return load(ROOT / "weights/digits/judge.safetensors")[0]


@pytest.fixture(scope="module")
def read(judge):
    """The classes that the judge takes images for."""
    return lambda x: judge(x).argmax(1).tolist()


def test_every_recipe_has_its_block():
    assert len(BLOCKS) == len(re.findall(r"^## ", PAGE, re.M)) == 9


def test_the_first_block_draws_threes(made, read):
    assert read(made["x_0"]).count(3) >= 7


def test_img2img(made, read):
    """Another class; and nearer to the image that it came from than to the others."""
    assert read(made["eights"]).count(8) >= 6
    distance = torch.cdist(made["eights"].flatten(1), made["x_0"].flatten(1))
    assert (distance.argmin(1) == torch.arange(8)).sum() >= 5


def test_inpainting(made, judge):
    """The known half is as it was, and the other makes more of an 8 of it."""
    known, x_0, x = made["known"], made["x_0"], made["inpainted"]
    assert torch.equal(x[..., known], x_0[..., known])
    assert not torch.equal(x[..., ~known], x_0[..., ~known]) and x.abs().max() < 1.5
    before, after = (judge(v).log_softmax(1)[:, 8] for v in (x_0, x))
    assert (after > before).sum() >= 7


def test_interpolation(made):
    """From the one image to the other, without a leap, and from noise of variance 1."""
    between, x_0 = made["between"], made["x_0"]
    assert_close(between[[0, -1]], x_0[:2], rtol=0, atol=1e-3)
    steps = (between[1:] - between[:-1]).flatten(1).norm(dim=1)
    assert steps.max() < 0.9 * (between[0] - between[-1]).norm()


def test_inversion(made):
    """The noise that leads back to the image: nearly, and far nearer than any other noise."""
    error = (made["again"] - made["x_0"]).square().mean().sqrt()
    other = made["sample"](made["plain"], torch.randn(8, 1, 8, 8), made["fine"], clip=None)
    assert error < 0.1 < 0.3 < (other - made["x_0"]).square().mean().sqrt()
    assert 0.7 < made["x"].std() < 1.3


def test_an_interval(made, read):
    """The class is reached, by another way than with guidance throughout."""
    assert read(made["varied"]).count(3) >= 7
    always = made["classifier_free_guidance"](made["unet"], 3, 4.0, null=10)
    assert not torch.equal(made["varied"][:1], made["sample"](always, made["x_T"][:1]))


def test_a_sweep_of_start_steps(made):
    """Each image is what it would be alone; the last is without the negative."""
    assert made["start"].tolist() == [1000, 900, 800, 700, 600, 500, 400, 0]
    for k in (0, 3, 7):
        alone = made["negative_guidance"](
            made["unet"], 10, 3, 2.0, null=10, start=int(made["start"][k])
        )
        one = made["sample"](alone, made["x_T"][:1])
        assert_close(made["sweep"][k : k + 1], one, rtol=0, atol=1e-3)
    plain = made["sample"](lambda x_t, t: made["unet"](x_t, t), made["x_T"][:1])
    assert not torch.allclose(made["sweep"][:1], plain, atol=0.1)


def test_several_negatives(made, read):
    x_T = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    unet, sample = made["unet"], made["sample"]
    plain, rest = (
        read(sample(eps, x_T, 10)) for eps in (lambda x_t, t: unet(x_t, t), made["neither"])
    )
    assert plain.count(3) + plain.count(8) >= 8 > 3 >= rest.count(3) + rest.count(8)
    assert made["rest"].shape == (8, 1, 8, 8)


def test_one_picture_again(made):
    assert_close(made["picture_17"], made["grid"][17:18], rtol=0, atol=1e-4)
