"""A sweep asks the network nothing twice. How often it must be asked is counted on paper."""

import pytest
import torch
from tiny import perturbed

from ddpm import linear_schedule
from guidance.__main__ import main
from guidance.app.memory import remembering
from unet import UNet, save

S, N = 6, 2
IMAGE = 4 * 2 * 3  # bytes of the answers below


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the network of tmp_path/unet.safetensors has been asked: (images, t, labels)."""
    schedule = linear_schedule(100)
    info = {"schedule": schedule.info, "classes": ["ant", "bee", "cat"]}
    save(tmp_path / "unet.safetensors", perturbed(), info)
    calls, forward = [], UNet.forward

    def spy(self, x_t, t, c):
        calls.append((len(x_t), int(t[0]), tuple(c.tolist())))
        return forward(self, x_t, t, c)

    monkeypatch.setattr(UNet, "forward", spy)
    return calls


def sweep(tmp_path, *flags):
    command = ["negative", "--weights", str(tmp_path), "--negative", "cat", "--steps", str(S)]
    command += ["--n", str(N), "--out", str(tmp_path / "a.png"), *flags]
    assert main(command) == 0


def test_a_sweep_over_start_steps_runs_their_common_beginning_once(asked, tmp_path):
    """Rows that start at 0, 2 and 5 of 6 steps and never: 6 updates with p₋ from step 0, 4 from 2,
    1 from 5, and 6 without it; of twice the batch but for the last 6, whose tokens are ∅ and ∅."""
    sweep(tmp_path, "--start-step", "0,2,5,6")
    guided = [n for n, _, c in asked if 2 in c]
    assert guided == [2 * N] * (6 + 4 + 1)
    assert [n for n, _, c in asked if 2 not in c] == [N] * 6
    assert len(asked) == 17  # and not the 24 updates of four rows


def test_a_sweep_over_stop_steps_shares_the_run_with_the_class(asked, tmp_path):
    """Rows that stop at 0, 2 and 5 of 6 steps: 6 updates without p₋, 4 without it after two with
    it, 1 after five; and the five with it. p₊ is a class, so each is of twice the batch."""
    sweep(tmp_path, "--stop-step", "0,2,5", "--class", "ant")
    assert len([c for _, _, c in asked if 2 not in c]) == 6 + 4 + 1
    assert len([c for _, _, c in asked if 2 in c]) == 5
    assert {n for n, *_ in asked} == {2 * N}


def test_rows_that_share_nothing_are_asked_for_one_by_one(asked, tmp_path):
    """Two w share x_T, and so the questions of the first update."""
    sweep(tmp_path, "--class", "ant", "--w", "1,2")
    assert len(asked) == 2 * S - 1


def test_what_was_wanted_longest_ago_is_forgotten_first():
    """Room for two answers: the third takes the place of the older one, by when it was wanted."""
    calls = []

    def eps(x_t, t, c):
        calls.append(int(c))
        return x_t + c

    ask, x, t = remembering(eps, most_bytes=2 * IMAGE), torch.zeros(1, 2, 3), torch.tensor([1])
    for c in (0, 1, 0, 2, 0, 1, 2):
        assert torch.equal(ask(x, t, torch.tensor([c])), x + c)
    assert calls == [0, 1, 2, 1, 2]


def test_another_image_another_time_another_label_is_another_question():
    """One bit decides."""
    calls = []

    def eps(x_t, t, c):
        calls.append(c)
        return x_t

    ask, x, one = remembering(eps), torch.zeros(2, 3), torch.ones(2, dtype=torch.int64)
    other = x.clone()
    other[1, 2] = 1e-45
    for question in ((x, one, one), (other, one, one), (x, 2 * one, one), (x, one, 2 * one)):
        ask(*question)
        ask(*question)
    assert len(calls) == 4
