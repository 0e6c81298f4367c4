"""Training: the commands as a user types them, interruptions, and what is said about faults."""

import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import struct

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from guidance.command import choose_device
from train.__main__ import main
from train.config import PRESETS, Config, from_flags, parser
from train.data import Dataset, load_data
from train.loop import Diverged, Interrupted, fit, learning_rate
from train.objectives import classifier_loss, unet_loss
from unet import load

TINY = """
    --width 8 --blocks 1 --batch-size 8 --steps 12 --classifier-steps 4 --warmup 2 --T 60
    --judge-steps 5 --judge-width 4 --sampling-steps 3 --log-every 3 --sample-every 5 --device cpu
""".split()  # noqa: SIM905


def train(*flags):
    return main([*TINY, *map(str, flags)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert train("--out", out) == 0
    return out


def test_a_run_leaves_everything_behind(finished):
    names = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    assert names == {
        "config.json",
        "log.jsonl",
        "unet.state",
        "unet.state.previous",
        "classifier.state",
        "judge.state",
        "unet.safetensors",
        "unet-raw.safetensors",
        "classifier.safetensors",
        "judge.safetensors",
        "loss.png",
        "samples.png",
        "accuracy.png",
        "guidance.png",
        "reverse.gif",
        "samples/step-000005.png",
        "samples/step-000010.png",
    }
    for name in names:
        content = (finished / name).read_bytes()
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG") and len(content) > 1000
    _, info = load(finished / "unet.safetensors")
    assert info["data"] == "digits" and info["levels"] == 17
    assert info["classes"] == [str(k) for k in range(10)]
    assert info["schedule"] == {"name": "cosine", "T": 60, "s": 0.008}
    assert info["config"]["steps"] == 12
    log = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in log if e["phase"] == "unet"] == [3, 6, 9, 12]
    assert [e["step"] for e in log if e["phase"] == "classifier" and "loss" in e] == [3, 4]
    assert [e["step"] for e in log if e["phase"] == "judge" and "loss" in e] == [3, 5]
    (accuracy,) = (e["accuracy over t"] for e in log if "accuracy over t" in e)
    assert next(iter(accuracy)) == "0" and list(accuracy)[-1] == "60"


def test_both_the_averaged_and_the_raw_weights_are_kept(finished):
    averaged, raw = (load_file(finished / f"unet{x}.safetensors") for x in ("", "-raw"))
    assert averaged.keys() == raw.keys()
    assert any(not torch.equal(averaged[k], raw[k]) for k in raw)


def test_the_number_is_printed_as_promised(finished, tmp_path, capsys):
    assert train("--out", tmp_path / "again") == 0
    out = capsys.readouterr().out
    pattern = (
        r"^class accuracy at w = 1: ([01]\.\d{3}) "
        r"\(500 samples; the judge on real test images: ([01]\.\d{3})\)$"
    )
    shares = re.search(pattern, out, re.MULTILINE)
    assert shares, out
    judge, _ = load(tmp_path / "again" / "judge.safetensors")
    data = load_data("digits", "")
    said = judge(data.scale(data.test_images)).argmax(1)
    assert float(shares[2]) == round(float((said == data.test_labels).float().mean()), 3)
    for name in ("unet.safetensors", "samples.png", "reverse.gif", "loss.png", "guidance.png"):
        assert str(tmp_path / "again" / name) in out
    for name in ("unet.safetensors", "classifier.safetensors", "samples.png", "reverse.gif"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


def test_another_seed_is_another_run(finished, tmp_path):
    flags = ("--seed", 1, "--classifier-steps", 0, "--judge-steps", 0)
    assert train("--out", tmp_path / "r", *flags) == 0
    one, two = (load_file(p / "unet.safetensors") for p in (finished, tmp_path / "r"))
    assert not torch.equal(one["out.weight"], two["out.weight"])
    for name in ("classifier", "judge"):
        assert not (tmp_path / "r" / f"{name}.safetensors").exists()


def test_a_run_is_not_overwritten_by_accident(finished, capsys):
    before = (finished / "unet.safetensors").read_bytes()
    assert train("--out", finished) == 2
    error = capsys.readouterr().err
    assert "holds another run; --resume goes on, --overwrite replaces" in error
    assert error.count("\n") == 1 and "Traceback" not in error
    assert (finished / "unet.safetensors").read_bytes() == before


def interrupt_at(step, loss):
    """The loss, with a Ctrl-C in the middle of that step."""
    calls = 0

    def interrupted(*args):
        nonlocal calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(*args)

    return interrupted


@pytest.mark.parametrize("stop", [1, 7, 10, 12])
def test_an_interrupted_run_ends_where_the_whole_one_does(
    finished, tmp_path, capsys, monkeypatch, stop
):
    """Bit for bit: weights, averages, optimiser, schedule, generators and the running loss."""
    handler = signal.getsignal(signal.SIGINT)
    out = tmp_path / "r"
    with monkeypatch.context() as patch:
        patch.setattr("train.objectives.unet_loss", lambda *a: interrupt_at(stop, unet_loss(*a)))
        assert train("--out", out) == 130
    error = capsys.readouterr().err
    assert f"python -m train --preset digits --out {out} --resume" in error
    assert main(["--out", str(out), "--resume"]) == 0
    for name in ("unet.safetensors", "unet-raw.safetensors", "classifier.safetensors"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name

    def losses(run):
        lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
        return [(e["phase"], e["step"], e["loss"]) for e in lines if "loss" in e]

    assert losses(out) == losses(finished)
    assert signal.getsignal(signal.SIGINT) is handler  # put back


def test_resume_keeps_the_configuration(finished, tmp_path, capsys):
    assert main(["--out", str(finished), "--resume", "--width", "16"]) == 2
    assert "--width can't change on --resume: the run has 8, got 16" in capsys.readouterr().err
    assert main(["--out", str(tmp_path / "none"), "--resume"]) == 2
    assert "there is no run in" in capsys.readouterr().err
    assert main(["--out", str(finished), "--resume", "--overwrite"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    for broken in ("{", "[1]", "7", '{"T": 0}', '{"preset": "digits", "x": 1}', '{"preset": "x"}'):
        (tmp_path / "config.json").write_text(broken)
        assert main(["--out", str(tmp_path), "--resume"]) == 2
        assert "can't be read" in capsys.readouterr().err


def test_a_broken_state_is_named(finished, tmp_path, capsys):
    (tmp_path / "config.json").write_text((finished / "config.json").read_text())
    state = (finished / "unet.state").read_bytes()
    for broken in (b"", state[:1000], b"not a state"):
        (tmp_path / "unet.state").write_bytes(broken)
        assert main(["--out", str(tmp_path), "--resume"]) == 2
        error = capsys.readouterr().err
        assert "unet.state can't be taken up" in error and "Traceback" not in error


def test_what_may_change_is_checked_against_the_run(finished, capsys):
    assert main(["--out", str(finished), "--resume", "--sampling-steps", "500"]) == 2
    assert "--sampling-steps must be at most T = 60, got 500" in capsys.readouterr().err


def test_overwriting_leaves_nothing_of_the_old_run(finished, tmp_path):
    out = tmp_path / "r"
    shutil.copytree(finished, out)
    (out / "notes.txt").write_text("mine")
    flags = ("--classifier-steps", 0, "--judge-steps", 0, "--steps", 4)
    assert train("--out", out, "--overwrite", *flags) == 0
    left = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert left == {
        "config.json",
        "log.jsonl",
        "unet.state",
        "unet.safetensors",
        "unet-raw.safetensors",
        "loss.png",
        "samples.png",
        "reverse.gif",
        "notes.txt",
    }


def test_a_state_from_another_device_goes_on_with_new_random_numbers(finished, tmp_path, capsys):
    out = tmp_path / "r"
    shutil.copytree(finished, out)
    state = torch.load(out / "unet.state", weights_only=True)
    state |= {"device": "cuda", "step": 9, "generator": torch.zeros(16, dtype=torch.uint8)}
    torch.save(state, out / "unet.state")
    assert main(["--out", str(out), "--resume"]) == 0
    assert "was saved on cuda: on cpu the run goes on with new random numbers" in (
        capsys.readouterr().err
    )


# -- the loop on its own ---------------------------------------------------------------------------


class Line(nn.Module):
    """y = a·x: the smallest model."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.a * x


def line_data():
    images = torch.arange(0, 17, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.arange(17)
    return Dataset("line", images, labels, images, labels, [str(k) for k in range(17)], levels=17)


def line_loss(model, x, c, generator):
    return (model(x) - 3 * x).square().mean()


def config(tmp_path, **changes):
    small = {"batch_size": 4, "log_every": 4, "sample_every": 4, "warmup": 2, "lr": 0.1}
    return Config(out=str(tmp_path), **{**small, **changes})


def test_the_average_is_the_exponential_one(tmp_path):
    """EMA with decay min(ema, (1+n)/(10+n)): followed by hand from the raw weight of every step."""
    raw = []

    def loss(model, *args):
        raw.append(model.a.item())
        return line_loss(model, *args)

    averaged, last = fit("x", Line(), loss, line_data(), config(tmp_path, ema=0.8), 40)
    raw = [*raw[1:], last.a.item()]  # after each step
    expected = raw[0]  # the first update copies
    for n, value in enumerate(raw[1:], start=1):
        decay = min(0.8, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert_close(averaged.a.item(), expected, rtol=1e-5, atol=0)


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 100, 10) for step in range(101)]
    assert rates[0] == 0.1 and rates[9] == 1.0 and max(rates) == 1.0
    assert rates[100] == 0.0 and rates[55] == pytest.approx(0.5)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate(0, 1, 0) == 1.0


def test_gradients_are_clipped(tmp_path):
    """One step of Adam forgets the scale of a gradient, so we look at the norm itself."""
    norms = []

    class Steep(Line):
        def forward(self, x):
            return 1e4 * self.a * x

    def loss(model, *args):
        if model.a.grad is not None:
            norms.append(model.a.grad.norm().item())
        return line_loss(model, *args)

    # the loop clears the gradient before its backward pass: look at the one of the step before
    fit("x", Steep(), loss, line_data(), config(tmp_path, grad_clip=0.5), 10)
    assert len(norms) == 9 and max(norms) <= 0.5 * 1.0001 and max(norms) > 0.4


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_state(tmp_path, bad):
    calls = 0

    def loss(model, *args):
        nonlocal calls
        calls += 1
        return line_loss(model, *args) * (bad if calls > 9 else 1.0)

    with pytest.raises(Diverged, match=r"not finite before step 12 \((nan|inf)\)"):
        fit("x", Line(), loss, line_data(), config(tmp_path), 40)
    state = torch.load(tmp_path / "x.state", weights_only=True)
    assert state["step"] == 8 and torch.isfinite(state["model"]["a"]).all()
    assert sorted(p.name for p in tmp_path.glob("*.state*")) == ["x.state", "x.state.previous"]


def test_an_infinite_gradient_under_a_finite_loss_is_seen(tmp_path):
    """Clipping turns it into NaN weights, and the last state must not hold them."""

    class Cliff(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * float("inf")

    calls = 0

    def loss(model, *args):
        nonlocal calls
        calls += 1
        value = line_loss(model, *args)
        return Cliff.apply(value) if calls == 8 else value

    with pytest.raises(Diverged, match="gradient is not finite before step 8"):
        fit("x", Line(), loss, line_data(), config(tmp_path), 40)
    state = torch.load(tmp_path / "x.state", weights_only=True)
    assert state["step"] == 4 and torch.isfinite(state["model"]["a"]).all()


def test_the_log_is_right_when_its_interval_changes_on_resume(tmp_path):
    def constant(model, *args):
        return line_loss(model, *args) * 0 + 1.0

    def interrupted(*args):
        nonlocal calls
        calls += 1
        if calls == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return constant(*args)

    calls = 0
    with pytest.raises(Interrupted):
        fit("x", Line(), interrupted, line_data(), config(tmp_path, log_every=10), 20)
    fit("x", Line(), constant, line_data(), config(tmp_path, log_every=2), 20)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in lines] == [8, 10, 12, 14, 16, 18, 20]
    assert [e["loss"] for e in lines] == [1.0] * 7


def test_divergence_on_the_command_line(tmp_path, capsys):
    assert train("--out", tmp_path / "r", "--lr", 1e30, "--precision", "float32") == 1
    error = capsys.readouterr().err
    assert "the loss of unet or its gradient is not finite" in error and "last good state" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_after_the_step_at_hand(tmp_path, number):
    def loss(model, *args):
        os.kill(os.getpid(), number)
        return line_loss(model, *args)

    with pytest.raises(Interrupted):
        fit("x", Line(), loss, line_data(), config(tmp_path), 40)
    assert torch.load(tmp_path / "x.state", weights_only=True)["step"] == 1


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def loss(model, *args):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return line_loss(model, *args)

    with pytest.raises(KeyboardInterrupt):
        fit("x", Line(), loss, line_data(), config(tmp_path), 40)


def test_pictures_come_from_the_averaged_weights(tmp_path):
    seen = []
    averaged, _ = fit(
        "x",
        Line(),
        line_loss,
        line_data(),
        config(tmp_path),
        12,
        lambda model, step: seen.append((step, type(model), model.a.item())),
    )
    assert [s[:2] for s in seen] == [(4, Line), (8, Line)]
    assert seen[0][2] != seen[1][2] != averaged.a.item()


# -- objectives ------------------------------------------------------------------------------------


class Echo(nn.Module):
    """A model that remembers what it was given."""

    def __init__(self, K):
        super().__init__()
        self.null_token = K
        self.given = []

    def forward(self, x_t, t, c=None):
        self.given.append((x_t, t, c))
        return torch.zeros_like(x_t) if c is not None else torch.zeros(len(x_t), 10)


def test_the_network_is_trained_with_dropped_labels_and_all_t(schedule):
    model, n = Echo(10), 20_000
    generator = torch.Generator().manual_seed(0)
    c = torch.arange(n) % 10
    loss = unet_loss(schedule, Config(p_uncond=0.25))(model, torch.zeros(n, 1, 1, 1), c, generator)
    ((_, t, labels),) = model.given
    assert abs(loss.item() - 1) < 5 * (2 / n) ** 0.5
    dropped = labels == 10
    assert abs(dropped.double().mean() - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5
    assert torch.equal(labels[~dropped], c[~dropped])
    assert t.min() >= 1 and t.max() <= 1000


def test_the_classifier_is_trained_on_noised_images(schedule):
    model, n = Echo(10), 20_000
    y = torch.arange(n) % 10
    x_0 = torch.full((n, 1, 1, 1), 0.5)
    loss = classifier_loss(schedule)(model, x_0, y, torch.Generator().manual_seed(0))
    assert_close(loss.item(), torch.log(torch.tensor(10.0)).item())  # undecided: ln K
    ((x_t, t, _),) = model.given
    assert t.min() == 1 and t.max() == 1000 and abs(t.double().mean() - 500.5) < 5 * 289 / n**0.5
    alpha_bar = schedule.alpha_bar[t].float()
    z = (x_t.flatten() - alpha_bar.sqrt() * 0.5) / (1 - alpha_bar).sqrt()
    assert abs(z.mean()) < 5 / n**0.5 and abs(z.square().mean() - 1) < 5 * (2 / n) ** 0.5


# -- data ------------------------------------------------------------------------------------------


def test_the_embedded_digits():
    data = load_data("digits", "nowhere")
    assert data.images.shape == (1437, 1, 8, 8) and data.test_images.shape == (360, 1, 8, 8)
    assert data.images.dtype == torch.uint8 and data.levels == 17 and not data.flip
    x = data.scale(torch.cat([data.images, data.test_images]))
    assert x.min() == -1 and x.max() == 1 and x.dtype == torch.float32
    counts = torch.bincount(data.test_labels, minlength=10)
    assert counts.min() >= 34 and counts.max() <= 38  # stratified


def test_batches_are_drawn_scaled_and_flipped_on_the_device():
    images = (
        torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    )
    images[1:] = 128
    labels = torch.tensor([0, 1, 2])
    data = Dataset("x", images, labels, images, labels, ["a", "b", "c"])
    generator = torch.Generator().manual_seed(0)
    x, c = data.batch(3000, generator)
    assert x.shape == (3000, 1, 2, 2) and abs((c == 0).double().mean() - 1 / 3) < 0.05
    assert {tuple(i.flatten().tolist()) for i in x[c == 0]} == {(-1, 1, 1, -1)}
    mirrored, c = dataclasses.replace(data, flip=True).batch(3000, generator)
    share = (mirrored[c == 0][:, 0, 0, 0] == 1).double().mean()
    assert abs(share - 0.5) < 5 * (0.25 / 1000) ** 0.5
    assert {tuple(i.flatten().tolist()) for i in mirrored[c == 0]} == {
        (-1, 1, 1, -1),
        (1, -1, -1, 1),
    }


def write_idx(path, array):
    """The MNIST file format: magic 0x0000080d (d dimensions of bytes), sizes, bytes."""
    header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + bytes(array.flatten().tolist()))


def test_mnist_is_read_from_its_files_without_a_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("network"))
    monkeypatch.setattr("train.data.MNIST_MD5", {})
    generator = torch.Generator().manual_seed(0)
    for part, n in (("train", 40), ("t10k", 20)):
        images = torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8)
        write_idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", images)
        labels = (torch.arange(n) % 10).to(torch.uint8)
        write_idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", labels)
    data = load_data("mnist", str(tmp_path))
    assert data.images.shape == (40, 1, 28, 28) and data.test_images.shape == (20, 1, 28, 28)
    assert data.classes == [str(k) for k in range(10)] and data.levels == 256
    out = tmp_path / "run"
    code = train(
        "--preset", "mnist", "--data-dir", tmp_path, "--out", out, "--attention", "7",
        "--multipliers", "1,1,1", "--steps", 2, "--classifier-steps", 1, "--schedule", "cosine",
    )  # fmt: skip
    assert code == 0 and (out / "guidance.png").exists()
    out = capsys.readouterr().out
    assert "class accuracy at w = 1: " in out and "the judge on real test images" in out


@pytest.mark.parametrize("preset", ["mnist", "cifar10"])
def test_a_download_that_fails_says_where_the_files_belong(preset, tmp_path, monkeypatch, capsys):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert (
        main(["--preset", preset, "--data-dir", str(tmp_path), "--out", str(tmp_path / "r")]) == 2
    )
    error = capsys.readouterr().err
    assert "could not be downloaded or read" in error and str(tmp_path) in error
    assert "`--preset digits` needs no download" in error and "Traceback" not in error
    assert error.strip().count("\n") == 0
    assert not (tmp_path / "r").exists()


def test_data_that_is_there_needs_no_right_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *a: False)
    monkeypatch.setattr("train.data.MNIST_MD5", {})
    for part, n in (("train", 3), ("t10k", 2)):
        images = torch.zeros(n, 28, 28, dtype=torch.uint8)
        write_idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", images[:, 0, 0])
    assert len(load_data("mnist", str(tmp_path)).images) == 3


def test_a_data_directory_that_can_not_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    flags = ["--preset", "mnist", "--data-dir", str(tmp_path / "file" / "data")]
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert "can't be made" in error and "`--preset digits` needs no download" in error


# -- flags -----------------------------------------------------------------------------------------


def test_every_field_is_a_flag_with_a_help_text(capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(Config):
        assert f"--{field.name.replace('_', '-')} " in text
        assert field.metadata["help"].split()[0] in text
    assert "--resume" in text and "--overwrite" in text


def test_flags_change_a_preset():
    given = vars(parser().parse_args(["--preset", "mnist", "--multipliers", "1,2", "--lr", "1e-3"]))
    given = {k: v for k, v in given.items() if k not in ("resume", "overwrite")}
    config = from_flags(given)
    assert config == dataclasses.replace(PRESETS["mnist"], multipliers=(1, 2), lr=1e-3)
    assert config.run == "runs/mnist"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--preset imagenet", "invalid choice: 'imagenet'"),
        ("--nonsense 3", "unrecognized arguments: --nonsense"),
        ("--step 3", "unrecognized arguments: --step"),
        ("--steps many", "argument --steps: invalid int value"),
        ("--multipliers 1,x", "argument --multipliers: must be integers"),
        ("--steps 0", "--steps must be at least 1, got 0"),
        ("--T 0", "--T must be at least 1, got 0"),
        ("--T 400 --schedule linear", "--T 400 with --schedule linear leaves √ᾱ_T = 0.13"),
        ("--batch-size -1", "--batch-size must be at least 1"),
        ("--classifier-steps -1", "--classifier-steps must be at least 0"),
        ("--judge-steps -1", "--judge-steps must be at least 0"),
        ("--judge-width 0", "--judge-width must be at least 1"),
        ("--seed -1", "--seed must be at least 0"),
        ("--seed 9223372036854775808", "--seed must be below 2^63"),
        ("--sampling-steps 1001", "--sampling-steps must be at most T = 1000"),
        ("--schedule sine", "--schedule must be linear or cosine, got sine"),
        ("--precision int8", "--precision must be auto, float32 or bfloat16"),
        ("--compile maybe", "--compile must be auto, on or off, got maybe"),
        ("--p-uncond 1.5", "--p-uncond must be a probability"),
        ("--p-uncond nan", "--p-uncond must be a probability"),
        ("--dropout 1", "--dropout must be in [0, 1)"),
        ("--ema 1", "--ema must be in [0, 1)"),
        ("--lr 0", "--lr must be a positive number"),
        ("--lr inf", "--lr must be a positive number"),
        ("--grad-clip nan", "--grad-clip must be a positive number"),
        ("--weight-decay -1", "--weight-decay must be a number ≥ 0"),
        ("--device tpu9", "--device tpu9 can't be used here"),
        ("--width 12", "width a multiple of 8"),
        ("--multipliers 1,1,1,1,1", "size must be divisible by 16"),
        ("--attention 5", "attention must name sides among"),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(flags, message, tmp_path, capsys):
    try:
        code = main([*flags.split(), "--out", str(tmp_path / "r")])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error, error
    assert error.strip().count("\n") == 0 and error.startswith("python -m train: error: ")
    assert not (tmp_path / "r").exists()


def test_the_device_of_auto():
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
