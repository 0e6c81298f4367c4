"""The judge: a network of its own, and how it is trained and asked."""

import dataclasses

import pytest
import torch

from ddpm import linear_schedule
from train.config import PRESETS
from train.data import load_data
from train.evaluate.cas import classification_accuracy_score
from train.evaluate.judge import load_judge
from train.judge import accuracy, ask
from unet import Judge, NoisyClassifier, load, save


def test_features_and_logits():
    torch.manual_seed(0)
    judge = Judge(size=28, channels=3, classes=7, width=4).eval()
    x = torch.randn(5, 3, 28, 28)
    features = judge.features(x)
    assert features.shape == (5, 8) and judge.num_features == 8
    assert torch.equal(judge(x), judge.logits(features)) and judge(x).shape == (5, 7)
    assert torch.allclose(torch.cat(ask(judge, x, batch_size=2), 1)[:, 8:], judge(x), atol=1e-6)


def test_round_trip(tmp_path):
    judge = Judge(size=8, width=4)
    judge(torch.randn(9, 1, 8, 8))  # moves the running statistics
    save(tmp_path / "judge.safetensors", judge, {"data": "x"})
    again, info = load(tmp_path / "judge.safetensors")
    assert info["architecture"]["name"] == "Judge" and not again.training
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(again(x), judge.eval()(x))


@pytest.mark.parametrize("x", [torch.zeros(2, 1, 9, 9), torch.zeros(2, 3, 8, 8), torch.zeros(8, 8)])
def test_bad_images_are_named(x):
    with pytest.raises(ValueError, match=r"must be a float batch \(B, 1, 8, 8\)"):
        Judge(size=8, width=4)(x)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"width must be an integer in 1\.\.4096, got 0"):
        Judge(size=8, width=0)


def test_classification_accuracy_score_learns_from_these_labels_alone():
    """With labels rotated by one, real images score high where the test images' are rotated as
    well, and nothing where they are not. The training images keep their labels and play no part."""
    data, config = load_data("digits", ""), PRESETS["digits"]
    x, c = data.scale(data.images), (data.labels + 1) % 10
    small = dataclasses.replace(config, judge_width=8, batch_size=32)
    rotated = dataclasses.replace(data, test_labels=(data.test_labels + 1) % 10)
    assert classification_accuracy_score(rotated, x, c, small, 150) > 0.7
    assert classification_accuracy_score(data, x, c, small, 150) < 0.1


def test_accuracy_counts_the_class_that_was_asked_for():
    judge = Judge(size=8, width=4).eval()
    x = torch.randn(10, 1, 8, 8)
    said = judge(x).argmax(1)
    asked = torch.where(torch.arange(10) < 7, said, (said + 1) % 10)
    assert accuracy(judge, x, asked) == pytest.approx(0.7)


def test_a_score_writes_nothing_and_says_what_diverged(tmp_path, monkeypatch, capsys):
    data, config = load_data("digits", ""), dataclasses.replace(PRESETS["digits"], judge_width=4)
    monkeypatch.chdir(tmp_path)
    x, c = data.scale(data.images[:20]), data.labels[:20]
    assert 0 <= classification_accuracy_score(data, x, c, config, 2) <= 1
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().err
    with pytest.raises(ValueError, match="no classification accuracy score: the loss of judge"):
        classification_accuracy_score(data, x, c, dataclasses.replace(config, lr=1e30), 20)


@pytest.mark.parametrize(
    ("kind", "data", "right"),
    [(Judge, "x", True), (Judge, "y", False), (NoisyClassifier, "x", False)],
)
def test_a_judge_is_one_and_of_the_same_data(tmp_path, kind, data, right):
    attention = {} if kind is Judge else {"multipliers": (1,), "attention": ()}
    model = kind(size=8, width=8, **attention)
    info = {"data": data, "schedule": linear_schedule(10).info}
    save(tmp_path / "judge.safetensors", model, info)
    if right:
        assert torch.equal(load_judge(tmp_path, {"data": "x"}).head.weight, model.head.weight)
    else:
        with pytest.raises(ValueError, match=r"judge\.safetensors is not a judge of x$"):
            load_judge(tmp_path, {"data": "x"})
