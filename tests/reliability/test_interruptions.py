"""Nothing is lost: a run that is killed or meets a full disk goes on from its last whole state."""

import itertools
import os
import random
import resource
import shutil
import signal
import time

import forked
import pytest
import torch
from helpers import Line, line_config, line_data, log
from helpers import main as finished
from PIL import Image
from tally import COUNT

from guidance.app.flags import run as run_command
from train.__main__ import main
from train.config import Config, Start
from train.directory import append_log, prepared
from train.loop import fit
from train.objectives import unet_loss
from train.state import load_state, save_state
from train.training import Training
from unet import load

STEPS = 150


def small_steps(run):
    """A model so small, saved after each step, that a kill often meets a state being written."""

    def loss(model, x_0, c, generator):
        noise = torch.randn(x_0.shape, generator=generator)
        return (model.a * torch.rand(()) + noise.mean() - x_0.mean()).square().mean()

    config = line_config(sample_every=1, log_every=10)
    torch.manual_seed(0)
    with prepared(run, config, Start(resume=True)):
        (run / "ready").touch()
        training = fit("x", Line(), loss, line_data(), config, STEPS, run=run)
        torch.save([training.model.a.data, training.averaged.a.data], run / "end.pt")


def begin(run):
    run.mkdir(exist_ok=True)
    (run / "ready").unlink(missing_ok=True)
    process = forked.start(small_steps, run, said=run.parent / "said")
    while not (run / "ready").exists():
        assert process.is_alive()
        time.sleep(0.001)
    return process


def finish(process, run):
    """Wait for the end, which must be a good one."""
    process.join()
    assert process.exitcode == 0, (run.parent / "said.err").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody disturbed: its end, and the seconds that it took."""
    run = tmp_path_factory.mktemp("whole") / "r"
    process, start = begin(run), time.perf_counter()
    finish(process, run)
    return torch.load(run / "end.pt"), time.perf_counter() - start


def test_killed_again_and_again_it_ends_where_it_would_have(whole, tmp_path):
    """kill -9 at random moments; every state that is left is whole, and the end is bit for bit.

    KILLS=n asks for more of them. A run that has come to its end is compared, and another begun.
    """
    expected, seconds = whole
    moments, kills = random.Random(0), 0
    runs = (tmp_path / str(number) for number in itertools.count())
    run = next(runs)
    met: list[int] = []  # the steps of the states that kills have left behind
    while kills < int(os.environ.get("KILLS", "5")) or len(set(met)) < 2:
        process = begin(run)
        process.join(moments.uniform(0, 0.3 * seconds))
        process.kill()
        process.join()
        if (run / "end.pt").exists():
            ends_as(begin(run), run, expected)
            run = next(runs)
            continue
        kills += 1
        COUNT["kill -9: tried"] += 1
        COUNT["kill -9: while the state was written"] += any(run.glob("*.partial*"))
        for state in run.glob("x.state*"):
            met.append(torch.load(state, weights_only=True)["step"])
        if (run / "log.jsonl").exists():
            assert all(entry["step"] <= STEPS for entry in log(run))
    assert min(met) > 0 and max(met) <= STEPS
    ends_as(begin(run), run, expected)


def ends_as(process, run, expected):
    finish(process, run)
    assert torch.equal(torch.stack(torch.load(run / "end.pt")), torch.stack(expected))
    assert not list(run.glob("*.partial*"))


def training(step=0):
    found = Training(torch.nn.Linear(20, 20), Config(), torch.device("cpu"), 9)
    torch.nn.init.constant_(found.model.weight, step)
    found.step = step
    return found


def saved(path, step):
    save_state(path, training(step))


def loaded(path):
    found = training()
    load_state(path, found, 0)
    assert bool((found.model.weight == found.step).all())
    return found.step


def test_the_state_before_the_last_is_kept(tmp_path, capsys):
    path = tmp_path / "x.state"
    for step in (1, 2, 3):
        saved(path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.state", "x.state.previous"]
    assert loaded(path) == 3 and capsys.readouterr().err == ""
    path.write_bytes(path.read_bytes()[:500])
    assert loaded(path) == 2
    error = capsys.readouterr().err
    assert "x.state can't be taken up" in error
    assert f"going on from {tmp_path}/x.state.previous, at step 2" in error
    path.unlink()  # killed between the two renames
    assert loaded(path) == 2
    (tmp_path / "x.state.previous").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.state\.previous can't be taken up"):
        loaded(path)


def test_a_full_disk_leaves_the_last_state(tmp_path):
    path = tmp_path / "x.state"
    saved(path, 1)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"{path} can't be written: .*; {path} is as it was"):
            saved(path, 2)
        with pytest.raises(OSError, match="there is none before it"):
            saved(tmp_path / "y.state", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.state"]


# -- what can't be written: the command, with an obstacle put in its way at the fourth step --------

TINY = """
    --width 8 --blocks 1 --batch-size 8 --classifier-steps 0 --warmup 2 --T 60 --judge-steps 0
    --sampling-steps 1 --log-every 1 --sample-every 3 --device cpu
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "tiny"
    assert main([*TINY, "--steps", "8", "--out", str(run)]) == 0
    return (run / "unet.safetensors").read_bytes(), (run / "unet-raw.safetensors").read_bytes()


def full(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/full")


def directory(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def limit(run):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))


OBSTACLES = {  # what happens, what the message names, what takes it away
    "a full disk": (limit, "unet.state can't be written", lambda run: None),
    "a full disk for the log": (
        lambda run: full(run / "log.jsonl"),
        "log.jsonl can't be written: [Errno 28] No space left",
        lambda run: (run / "log.jsonl").unlink(),
    ),
    "a directory for a log": (
        lambda run: directory(run / "log.jsonl"),
        "log.jsonl can't be written",
        lambda run: (run / "log.jsonl").rmdir(),
    ),
    "a full disk for a picture": (
        lambda run: full(run / f"samples/step-000006.partial-{os.getpid()}.png"),
        "samples/step-000006.png can't be written: [Errno 28] No space left",
        lambda run: None,
    ),
    "a directory for the weights": (
        lambda run: directory(run / "unet-raw.safetensors"),
        "unet-raw.safetensors can't be written",
        lambda run: (run / "unet-raw.safetensors").rmdir(),
    ),
    "a directory for the last picture": (
        lambda run: directory(run / "reverse.gif"),
        "reverse.gif can't be written",
        lambda run: (run / "reverse.gif").rmdir(),
    ),
    "no right to write": (
        lambda run: run.chmod(0o500),
        "unet.state can't be written",
        lambda run: run.chmod(0o700),
    ),
}


def disturbed(run, obstacle, monkeypatch):
    """The command's exit code; at the fourth step the obstacle comes, and its limit goes after."""
    calls, limits = 0, resource.getrlimit(resource.RLIMIT_FSIZE)

    def loss(*args):
        nonlocal calls
        calls += 1
        if calls == 4:
            obstacle(run)
        return unet_loss(*made)(*args)

    def make(*args):
        nonlocal made
        made = args
        return loss

    made = ()
    monkeypatch.setattr("train.objectives.unet_loss", make)
    try:
        return main([*TINY, "--steps", "8", "--out", str(run)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_can_not_be_written_is_said_and_nothing_is_lost(
    name, undisturbed, unprivileged, monkeypatch, capsys
):
    """One line, exit code 2, every file whole; and with the obstacle gone the run ends as ever."""
    obstacle, message, away = OBSTACLES[name]
    run = unprivileged / "r"
    assert disturbed(run, obstacle, monkeypatch) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("python -m train: error: ") and message in error
    assert f"go on with: python -m train --preset digits --out {run} --resume" in error
    away(run)
    assert torch.load(run / "unet.state", weights_only=True)["step"] in (3, 6, 8)
    assert not list(run.rglob("*.partial*"))
    for picture in run.rglob("*.png"):
        Image.open(picture).verify()
    for weights in run.glob("*.safetensors"):
        load(weights)
    assert finished(["--out", str(run), "--resume"], shown="picture" in name) == 0
    ends = (run / "unet.safetensors").read_bytes(), (run / "unet-raw.safetensors").read_bytes()
    assert ends == undisturbed


@pytest.mark.parametrize("left", ["nothing", "a file"])
def test_a_run_whose_directory_goes_says_so(tmp_path, monkeypatch, capsys, left):
    def obstacle(run):
        shutil.rmtree(run)
        if left == "a file":
            run.write_text("")

    assert disturbed(tmp_path / "r", obstacle, monkeypatch) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "python -m train: error: " in error and "r/log.jsonl can't be written" in error


def test_half_a_line_is_taken_back(tmp_path):
    log = tmp_path / "log.jsonl"
    append_log(log, {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(OSError, match="log.jsonl can't be written"):
            append_log(log, {"step": 2, "text": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.read_text() == '{"step": 1}\n'


def test_sigterm_is_ctrl_c(tmp_path, capsys):
    """In the loop the state is saved and the way to go on is said; elsewhere the command ends."""
    run = tmp_path / "r"
    flags = [*TINY, "--steps", "100000", "--out", str(run)]
    process = forked.start(main, flags, said=tmp_path / "said")
    while not (run / "unet.state").exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.terminate()
    process.join()
    error = (tmp_path / "said.err").read_text()
    assert process.exitcode == 130 and "Go on with: python -m train" in error, error
    assert "Traceback" not in error
    handler = signal.getsignal(signal.SIGTERM)
    assert run_command("python -m x", lambda: os.kill(os.getpid(), signal.SIGTERM)) == 130
    assert capsys.readouterr().err == "python -m x: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is handler
