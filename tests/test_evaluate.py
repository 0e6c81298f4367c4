"""`python -m train.evaluate`: numbers of trained weights, as the library gives them."""

import re

import pytest
import torch
from guidance.models import load_models
from guidance.sampling import Request, Sampler, draw
from oracles import normal

from ddpm import cosine_schedule, variational_bound
from train import metrics
from train.data import load_data
from train.evaluate import main
from train.experiments.results import Results
from train.judge import ask
from unet import Judge, UNet, load, save

TINY = {"size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w"
    torch.manual_seed(0)
    model = UNet(**TINY)
    model.out.weight.data.copy_(0.1 * normal(tuple(model.out.weight.shape)))
    info = {"schedule": cosine_schedule(20).info, "data": "digits"}
    info["classes"] = [str(k) for k in range(10)]
    save(path / "unet.safetensors", model, info)
    save(path / "judge.safetensors", Judge(size=8, width=4), info)
    return path


def evaluate(weights, *flags):
    out = weights.parent / "results.csv"
    common = ["--weights", str(weights), "--device", "cpu", "--out", str(out), "--n", "40"]
    return main([*common, "--steps", "5", "--precision", "float32", *flags])


def test_the_numbers_are_the_librarys(weights, capsys):
    assert evaluate(weights, "--seed", "3", "--w", "0.5") == 0
    c = torch.arange(10).repeat_interleave(4)
    request = Request("classifier-free", 0, w=0.5)
    x = draw(load_models(weights), request, Sampler(steps=5), c, seed=3)
    judge, _ = load(weights / "judge.safetensors")
    data = load_data("digits", "")
    real, _ = ask(judge, data.scale(data.test_images))
    features, logits = ask(judge, x)
    expected = {
        "class_accuracy": float((logits.argmax(1) == c).double().mean()),
        "inception_score": metrics.inception_score(logits),
        "frechet": metrics.frechet_distance(real, features),
        "diversity": metrics.diversity(features, c),
    }
    (row,) = Results(weights.parent / "results.csv").rows
    out = capsys.readouterr().out
    for key, value in expected.items():
        assert row[key] == pytest.approx(value, rel=1e-4)
        assert f"{row[key]:9.4f}"[:8] in out
    assert {k: row[k] for k in ("data", "w", "sampler", "steps", "n", "seed")} == {
        "data": "digits", "w": 0.5, "sampler": "ddim", "steps": 5, "n": 40, "seed": 3,
    }  # fmt: skip
    assert re.fullmatch("sha256:[0-9a-f]{12}", row["weights"])
    assert "FID" not in out and "classification accuracy score" not in out


def test_each_call_adds_a_line(weights, capsys):
    assert evaluate(weights, "--w", "0") == 0
    assert evaluate(weights, "--sampler", "ancestral", "--seed", "1", "--cas", "--n", "10") == 0
    assert "classification accuracy score" in capsys.readouterr().out
    rows = Results(weights.parent / "results.csv").rows
    assert [row["sampler"] for row in rows] == ["ddim", "ancestral, posterior"]
    assert rows[0]["cas"] != rows[0]["cas"] and 0 <= rows[1]["cas"] <= 1


def test_the_bound_is_the_librarys(weights, capsys):
    assert evaluate(weights, "--bound", "7", "--seed", "3") == 0
    model = load_models(weights).unet
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
        column = "bound" if variance == "beta" else "bound_posterior"
        (stored,) = Results(weights.parent / "results.csv").rows
        assert stored[column] == pytest.approx(float(bound.total.mean()), rel=1e-4)
        assert stored["bound_n"] == 7


def test_the_real_fid_says_what_it_lacks(weights, capsys, monkeypatch):
    def missing(feature):
        raise ModuleNotFoundError("FrechetInceptionDistance metric requires that `Torch-fidelity`")

    monkeypatch.setattr("torchmetrics.image.fid.FrechetInceptionDistance", missing)
    assert evaluate(weights, "--features", "inception") == 2
    error = capsys.readouterr().err
    assert "--features inception needs torch-fidelity" in error and error.strip().count("\n") == 0


def test_the_real_fid_sees_bytes_in_three_channels(weights, capsys, monkeypatch):
    seen = {True: [], False: []}

    class Metric:
        def __init__(self, feature):
            assert feature == 2048

        def update(self, images, real):
            assert images.dtype == torch.uint8 and images.shape[1:] == (3, 8, 8)
            seen[real].append(images)

        def to(self, device):
            return self

        def compute(self):
            return torch.tensor(12.5)

    monkeypatch.setattr("torchmetrics.image.fid.FrechetInceptionDistance", Metric)
    assert evaluate(weights, "--features", "inception") == 0
    assert re.search(r"^FID \(Inception\) +12\.5000$", capsys.readouterr().out, re.MULTILINE)
    real = torch.cat(seen[True])
    assert len(real) == 360 and real.min() == 0 and real.max() == 255
    assert len(torch.cat(seen[False])) == 40


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bound", "1"], "--bound must be 0 or 2..360, got 1"),
        (["--bound", "361"], "--bound must be 0 or 2..360"),
        (["--n", "15"], "--n must be a multiple of the 10 classes, got 15"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--seed", "-1"], "--seed must lie in"),
        (["--weights", "nowhere"], "no unet.safetensors"),
    ],
)
def test_bad_flags(flags, message, weights, capsys):
    assert evaluate(weights, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0


def test_weights_without_a_judge(weights, capsys):
    (weights / "judge.safetensors").unlink()
    assert evaluate(weights) == 2
    assert "no judge.safetensors" in capsys.readouterr().err
    save(weights / "judge.safetensors", Judge(size=8, width=4), {"data": "mnist"})
    assert evaluate(weights) == 2
    assert "is not a judge of digits" in capsys.readouterr().err
