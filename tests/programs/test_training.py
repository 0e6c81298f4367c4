"""The training loop on the smallest model, and what one step needs and keeps.

What a step computes is in test_training_by_hand.py.
"""

import copy
import itertools
import os
import signal
import time
import traceback

import pytest
import torch
from helpers import Line, at_call, ctrl_c, line_config, line_data, line_loss, log, rate
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm import cosine_schedule
from train.config import Config
from train.data import load_data
from train.loop import Diverged, Interrupted, fit
from train.objectives import judge_loss, new_judge, new_networks, phases
from train.training import Training, learning_rate

CPU = torch.device("cpu")


def fitted(run=None, loss=line_loss, steps=40, look=None, model=None, **changes):
    return fit(
        "x", model or Line(), loss, line_data(), line_config(**changes), steps, look, run=run
    )


def saved(run):
    return torch.load(run / "x.state", weights_only=True)


# -- one step --------------------------------------------------------------------------------------


def test_buffers_are_copied_and_not_averaged():
    """BatchNorm's running statistics are an average already."""
    data, config = load_data("digits", ""), Config(judge_width=4, batch_size=8)
    training = Training(new_judge(data, config), config, CPU, 9)
    for _ in range(3):
        training.update(judge_loss, data)
    buffers = dict(training.averaged.named_buffers())
    for name, buffer in training.model.named_buffers():
        assert torch.equal(buffers[name], buffer)
    assert buffers["norms.0.num_batches_tracked"] == 3


class NoReading(TorchDispatchMode):
    """Refuses what a GPU would have to be waited for: a number fetched from a tensor."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            looks = any(f.filename.endswith("checks.py") for f in traceback.extract_stack())
            assert looks, "a step reads a number from the device"  # they look on a CPU alone
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("phase", ["unet", "classifier", "judge"])
def test_a_step_waits_for_nothing(phase):
    config = Config(width=8, blocks=1, batch_size=4, judge_width=4)
    data, schedule = load_data("digits", ""), cosine_schedule()
    for name, network, loss, _ in phases(*new_networks(config, data), config, data, schedule):
        if name == phase:
            training = Training(network, config, CPU, 10)
            training.update(loss, data)
            with NoReading():
                training.update(loss, data)
            assert training.step == training.count == 2


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 100, 10) for step in range(101)]
    assert rates[0] == 0.1 and rates[9] == 1.0 and max(rates) == 1.0
    assert rates[100] == 0.0 and rates[55] == pytest.approx(0.5)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate(0, 1, 0) == 1.0


def test_a_state_dict_holds_all_that_the_next_step_depends_on():
    """Two trainings end alike from it, with dropout's stream and ours moved on in between."""

    def loss(model, x, c, generator):
        noise = torch.rand(x.shape, generator=generator) * torch.rand(())  # ours, and dropout's
        return (model(x) - noise).square().mean()

    torch.manual_seed(1)
    one, two = (Training(Line(), line_config(), CPU, 20) for _ in range(2))
    for _ in range(5):
        one.update(loss, line_data())
    state = copy.deepcopy(one.state_dict())
    for _ in range(5):
        one.update(loss, line_data())
    two.load_state_dict(state)
    assert two.step == two.count == 5
    for _ in range(5):
        two.update(loss, line_data())
    for a, b in ((one.model, two.model), (one.averaged, two.averaged)):
        assert torch.equal(a.a, b.a)
    assert torch.equal(one.total, two.total) and one.mean_loss() == two.mean_loss()
    assert one.scheduler.get_last_lr() == two.scheduler.get_last_lr()


# -- the loop --------------------------------------------------------------------------------------


def test_without_a_directory_nothing_is_written_or_shown(tmp_path, monkeypatch, capsys):
    """And it is the same training, whose Ctrl-C is Python's own."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGINT)

    def loss(*arguments):
        assert signal.getsignal(signal.SIGINT) is handler
        return line_loss(*arguments)

    training = fitted(loss=loss)
    assert not list(tmp_path.iterdir()) and capsys.readouterr() == ("", "")
    written = fitted(tmp_path)
    for a, b in ((training.model, written.model), (training.averaged, written.averaged)):
        assert torch.equal(a.a, b.a) and not a.training and not b.training
    with pytest.raises(KeyboardInterrupt):
        fitted(loss=at_call(3, ctrl_c))


def test_the_log_and_the_running_loss(tmp_path):
    seen = []

    def loss(*arguments):
        seen.append(line_loss(*arguments))
        return seen[-1]

    training = fitted(tmp_path, loss, 10, log_every=4)
    assert [e["step"] for e in log(tmp_path)] == [4, 8, 10]
    for entry, part in zip(log(tmp_path), (seen[:4], seen[4:8], seen[8:]), strict=True):
        assert entry["loss"] == pytest.approx(torch.stack(part).mean().item())
        assert entry["lr"] == pytest.approx(rate(entry["step"], 10, 0.1), rel=1e-12)
    assert training.count == 0


def test_the_log_says_the_seconds_since_the_start(tmp_path, monkeypatch):
    """A clock that stands at 1000 and goes on by 2 with each step."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def loss(*given):
        now[0] += 2
        return line_loss(*given)

    fitted(tmp_path, loss, steps=10)
    assert [entry["seconds"] for entry in log(tmp_path)] == [8, 16, 20]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_state(tmp_path, bad):
    loss = at_call(10, lambda value: value * bad)
    with pytest.raises(Diverged, match=r"not finite before step 12 \((nan|inf)\); the last good"):
        fitted(tmp_path, loss)
    assert saved(tmp_path)["step"] == 8 and torch.isfinite(saved(tmp_path)["model"]["a"]).all()
    assert sorted(p.name for p in tmp_path.glob("*.state*")) == ["x.state", "x.state.previous"]
    with pytest.raises(Diverged, match=r"before step 12 \((nan|inf)\)\. A new run"):
        fitted(loss=at_call(10, lambda value: value * bad))


def test_an_infinite_gradient_under_a_finite_loss_is_seen(tmp_path):
    """Clipping turns it into NaN weights, and the last state must not hold them."""

    class Cliff(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * float("inf")

    with pytest.raises(Diverged, match="gradient is not finite before step 8"):
        fitted(tmp_path, at_call(8, Cliff.apply))
    assert saved(tmp_path)["step"] == 4 and torch.isfinite(saved(tmp_path)["model"]["a"]).all()


def test_the_log_is_right_when_its_interval_changes_on_resume(tmp_path):
    def constant(*arguments):
        return line_loss(*arguments) * 0 + 1.0

    with pytest.raises(Interrupted):
        fitted(tmp_path, at_call(7, ctrl_c, constant), 20, log_every=10)
    fitted(tmp_path, constant, 20, log_every=2)
    lines = log(tmp_path)
    assert [e["step"] for e in lines] == [8, 10, 12, 14, 16, 18, 20]
    assert [e["loss"] for e in lines] == [1.0] * 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_after_the_step_at_hand(tmp_path, number):
    def loss(*arguments):
        os.kill(os.getpid(), number)
        return line_loss(*arguments)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted):
        fitted(tmp_path, loss)
    assert saved(tmp_path)["step"] == 1 and signal.getsignal(number) is handler


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, at_call(1, lambda value: ctrl_c(ctrl_c(value))))
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_look_is_at_the_averaged_weights(tmp_path):
    seen = []

    def look(model, step):
        assert not model.training
        seen.append((step, type(model), model.a.item()))

    training = fitted(tmp_path, steps=12, look=look)
    assert [s[:2] for s in seen] == [(4, Line), (8, Line)]
    assert seen[0][2] != seen[1][2] != training.averaged.a.item()
    assert saved(tmp_path)["averaged"]["a"].item() == training.averaged.a.item()
