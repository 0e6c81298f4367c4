"""The playground's pictures: the sentence that they say, what is kept, and sliders that fit."""

import sys
from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))

import playground  # noqa: E402
from playground import ADM, DNG, EQ_5, impossible, pair, run, world  # noqa: E402
from sliders import sliders  # noqa: E402

from ddpm import GaussianMixture, ddim, linear_schedule, timesteps  # noqa: E402
from guidance import classifier_free_guidance  # noqa: E402

AT = ("ddim", 10, 3, 4)


def test_without_red_is_the_world_that_never_had_it():
    """λ = p/(1 − p) beside the mixture of the other two; a class by a classifier beside CFG."""
    states, _ = run("mixture", DNG, "∅", "red", 1.0, (0, 10), AT)
    two = GaussianMixture(playground.TRIANGLE.mean[:2], torch.full((2,), 0.1).double())
    *_, last = ddim(linear_schedule(), two.eps(linear_schedule()), states[0], 10, clip=None)
    # where red is all but certain p is capped at 0.99, far from these four
    torch.testing.assert_close(states[-1], last.x, rtol=0, atol=1e-6)
    states, _ = run("mixture", ADM, "red", "∅", 3.0, (0, 10), AT)
    eps = classifier_free_guidance(playground.TRIANGLE.eps(linear_schedule()), 2, 2.0, null=3)
    *_, last = ddim(linear_schedule(), eps, states[0], 10, clip=None)
    torch.testing.assert_close(states[-1], last.x, rtol=0, atol=1e-9)


def test_the_row_without_is_kept_and_the_start_is_where_it_says():
    """One new run for a slider of the negative; up to the start step both rows are one."""
    run.cache_clear()
    for k in (0, 4, 10):
        plain, guided = pair("mixture", EQ_5, "red", "blue", 2.0, (k, 99), AT)
        same = [torch.equal(a, b) for a, b in zip(plain[0], guided[0], strict=True)]
        assert same == [True] * (k + 1) + [False] * (10 - k)
    assert run.cache_info().misses == 4 and run.cache_info().hits == 2
    assert len(timesteps(1000, 10)) == len(guided[1]) == 10


@pytest.mark.parametrize(
    ("name", "how", "positive", "negative", "words"),
    [
        ("mnist", EQ_5, "3", "ring", "knows no ring"),
        ("scenes", ADM, "∅", "ring", "choose a positive"),
        ("mixture", DNG, "red", "∅", "choose a negative"),
        ("scenes", EQ_5, "3", "ring", ""),
    ],
)
def test_what_has_no_picture_is_said(name, how, positive, negative, words):
    said = impossible(name, how, positive, negative)
    assert words in said and bool(said) == bool(words)
    assert "∅" in world(name).names


def controls(box):
    columns, busy, _ = box.children
    found = {c.description: c for column in columns.children for c in column.children}
    return found, busy


def test_start_and_stop_are_no_longer_than_the_steps_and_the_sign_says_busy():
    said, seen, sign = [], [], []

    def draw(**values):
        seen.append(values)
        said.extend(s.value for s in sign)

    found, busy = controls(sliders(draw, 20, how=("a", "b")))
    sign.append(busy)
    found["w"].value = 3.0
    assert seen[-1]["w"] == 3.0 and "drawing" in said[-1] and busy.value == ""
    found["steps"].value = 8
    assert (found["start step"].max, found["stop step"].max, found["stop step"].value) == (8, 8, 8)
    found["stop step"].value = 5
    found["steps"].value = 12  # a stop before the end stays where it is
    assert found["stop step"].value == 5 and found["stop step"].max == 12
    assert all(values["stop_step"] <= 20 for values in seen)
