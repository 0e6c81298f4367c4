"""Nothing is lost: a run that is killed or meets a full disk goes on from its last whole state."""

import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
STEPS = 300
# A model so small, saved after each step, that a kill often meets a state that is being written.
SCRIPT = f"""
import sys, torch
from train.config import Config
from train.data import Dataset
from train.loop import fit

class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(()))

def loss(model, x_0, c, generator):
    noise = torch.randn(x_0.shape, generator=generator)
    return (model.a * torch.rand(()) + noise.mean() - x_0.mean()).square()

torch.set_num_threads(1)
torch.manual_seed(0)
images = torch.arange(64, dtype=torch.uint8).view(64, 1, 1, 1)
labels = torch.arange(64) % 10
data = Dataset("x", images, labels, images, labels, [str(k) for k in range(10)])
config = Config(out=sys.argv[1], sample_every=1, log_every=10, batch_size=4, warmup=2)
print("ready", flush=True)
averaged, raw = fit("x", Line(), loss, data, config, {STEPS})
torch.save([raw.a.data, averaged.a.data], sys.argv[1] + "/end.pt")
"""


def start(run):
    run.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def finish(process):
    """Wait for the end, which must be a good one."""
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody disturbed: its end, and the seconds that it took."""
    run = tmp_path_factory.mktemp("whole")
    process = start(run)
    begin = time.perf_counter()
    finish(process)
    return torch.load(run / "end.pt"), time.perf_counter() - begin


def test_killed_again_and_again_it_ends_where_it_would_have(whole, tmp_path):
    """kill -9 at random moments; every state that is left is whole, and the end is bit for bit."""
    expected, seconds = whole
    moments, kills = random.Random(0), 0
    for _ in range(int(os.environ.get("KILLS", "3"))):
        process = start(tmp_path)
        try:
            process.wait(moments.uniform(0, 0.3 * seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.communicate()
        for state in tmp_path.glob("*.state*"):
            if not state.name.endswith(".partial"):
                assert torch.load(state, weights_only=True)["step"] <= STEPS
    assert kills
    finish(start(tmp_path))
    assert torch.equal(torch.stack(torch.load(tmp_path / "end.pt")), torch.stack(expected))


def saved(path, step):
    from train.state import save_state

    model = torch.nn.Linear(20, 20)
    torch.nn.init.constant_(model.weight, step)
    save_state(path, {"model": model}, torch.Generator(), step, 0, torch.zeros(()))


def loaded(path):
    from train.state import load_state

    model = torch.nn.Linear(20, 20)
    found = load_state(path, {"model": model}, torch.Generator(), torch.device("cpu"), 0)
    assert bool((model.weight == found[0]).all())
    return found[0]


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
        with pytest.raises(OSError, match=rf"{path} can't be written .*; {path} is as it was"):
            saved(path, 2)
        with pytest.raises(OSError, match="there is none before it"):
            saved(tmp_path / "y.state", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.state"]
