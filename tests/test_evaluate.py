"""`python -m train.evaluate`: the bound of trained weights."""

import re

import torch
from conftest import normal

from ddpm import cosine_schedule, variational_bound
from train.data import load_data
from train.evaluate import main
from unet import UNet, save

TINY = {"size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}


def weights(path):
    torch.manual_seed(0)
    model = UNet(**TINY)
    model.out.weight.data.copy_(0.1 * normal(tuple(model.out.weight.shape)))
    info = {
        "schedule": cosine_schedule(20).info,
        "data": "digits",
        "classes": [str(k) for k in range(10)],
    }
    save(path / "unet.safetensors", model, info)
    return model.eval()


def test_the_bound_is_the_librarys(tmp_path, capsys):
    model = weights(tmp_path)
    assert main(["--weights", str(tmp_path), "--n", "7", "--seed", "3", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "7 held-out images of digits" in out and "17 grey levels cost 4.087" in out
    data = load_data("digits", "")
    x_0, c = data.scale(data.test_images[:7]), data.test_labels[:7]
    rows = re.findall(r"^β\S*_t +(\S+) +(\S+) +(\S+) +(\S+) ± (\S+)$", out, re.MULTILINE)
    assert len(rows) == 2
    for row, variance in zip(rows, ("beta", "posterior"), strict=True):
        bound = variational_bound(
            cosine_schedule(20),
            lambda x_t, t: model(x_t, t, c),
            x_0,
            levels=17,
            variance=variance,
            generator=torch.Generator().manual_seed(3),
        )
        expected = (bound.L_T.mean(), bound.L_t.sum(1).mean(), bound.L_0.mean(), bound.total.mean())
        for text, value in zip(row, expected, strict=False):
            assert abs(float(text) - value) <= 1e-4
        half = 1.96 * bound.total.std() / 7**0.5
        assert abs(float(row[4]) - half) <= 1e-4


def test_bad_flags(tmp_path, capsys):
    weights(tmp_path)
    for flags, message in (
        (["--weights", str(tmp_path), "--n", "1"], "--n must lie in 2..360, got 1"),
        (["--weights", str(tmp_path), "--n", "361"], "--n must lie in 2..360"),
        (["--weights", str(tmp_path / "x")], "no unet.safetensors"),
    ):
        assert main(flags) == 2
        error = capsys.readouterr().err
        assert message in error and error.strip().count("\n") == 0
