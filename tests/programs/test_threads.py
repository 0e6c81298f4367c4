"""Threads: how long they spin, how many there are, and what is said when that is no longer good."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import Line, at_call, ctrl_c, line_config, line_data, line_loss, main, train

from train import threads
from train.config import Config, parser
from train.loop import fit
from train.objectives import unet_loss

ROOT = Path(__file__).parents[2]
SPINCOUNT = "30000"
WAYS_IN = {
    "ddpm": "import ddpm",
    "unet": "import unet.device",
    "guidance": "import guidance.classifier",
    "train": "runpy.run_module('train', run_name='__main__')",
    "evaluate": "runpy.run_module('train.evaluate', run_name='__main__')",
}
# It reads the count when torch's libraries load it: the seconds after that say nothing more.
UNTIL_THEN = """
import os, runpy, sys
class Stop:
    def find_spec(name, *_):
        if "torch._C" in sys.modules and name == "torch._tensor":
            os._exit(0)
sys.meta_path.insert(0, Stop)
{}
sys.exit("no torch was loaded")
"""


def loading(code, **env):
    """What each libgomp that a new process has loaded by then says of itself."""
    return spin_counts("-c", UNTIL_THEN.format(code), **env)


def spin_counts(*argv, **env):
    """The same of a process to its end."""
    kept = {k: v for k, v in os.environ.items() if "OMP" not in k}
    env = {**kept, "OMP_DISPLAY_ENV": "VERBOSE", **env}
    done = subprocess.run(
        [sys.executable, *argv], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libgomp is Linux's")
class TestSpinning:
    @pytest.mark.parametrize("name", WAYS_IN)
    def test_every_way_in_sets_the_count_before_libgomp_loads(self, name):
        assert loading(WAYS_IN[name]) == {SPINCOUNT}

    def test_torchrun(self):
        run = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
        assert SPINCOUNT in spin_counts(*run, "-m", "train", "--help")

    def test_the_users_word_stands(self):
        assert loading("import ddpm", GOMP_SPINCOUNT="77") == {"77"}
        assert SPINCOUNT not in loading("import ddpm", OMP_WAIT_POLICY="PASSIVE")


@pytest.fixture
def two_threads(monkeypatch):
    """As on two free cores, without a word of the user's; and a probe that is soon over."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "SECONDS", 0.02)
    yield
    torch.set_num_threads(before)


def stored(run):
    return json.loads((run / "config.json").read_text())["threads"]


def test_the_probe_changes_nothing(two_threads, tmp_path, capsys, monkeypatch):
    """Bit for bit the run with --threads N; interrupted and resumed, it does not probe again."""
    with monkeypatch.context() as patch:
        patch.setattr("train.objectives.unet_loss", lambda *a: at_call(7, ctrl_c, unet_loss(*a)))
        assert train("--out", tmp_path / "auto", "--judge-steps", 0) == 130
    said = capsys.readouterr().out
    n = stored(tmp_path / "auto")
    assert f"threads: {n}, by images/s with each number (1: " in said and n in ("1", "2")
    torch.set_num_threads(3 - int(n))
    assert main(["--out", str(tmp_path / "auto"), "--resume"]) == 0
    assert "by images/s" not in capsys.readouterr().out and torch.get_num_threads() == int(n)
    assert train("--out", tmp_path / "fixed", "--judge-steps", 0, "--threads", n) == 0
    for name in ("unet", "unet-raw", "classifier"):
        one, two = (tmp_path / run / f"{name}.safetensors" for run in ("auto", "fixed"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("best", [1, 2])
def test_the_fastest_is_taken(two_threads, monkeypatch, best):
    monkeypatch.setattr(threads, "probe", lambda *_: {1: 5.0, 2: 5.0, best: 6.0})
    config = threads.settle(Config(), Line(), line_loss, line_data())
    assert config.threads == str(best) and torch.get_num_threads() == best


def test_the_probe_tells_fast_from_slow(two_threads):
    def loss(*arguments):
        for _ in range(200 * torch.get_num_threads()):
            value = line_loss(*arguments)
        return value

    speeds = threads.probe(line_config(), Line(), loss, line_data(), [1, 2])
    assert speeds[1] > 1.2 * speeds[2] > 0 and torch.get_num_threads() == 2


def test_where_nothing_is_tried(two_threads, monkeypatch):
    monkeypatch.setattr(threads, "probe", None)
    arguments = Line(), line_loss, line_data()
    with monkeypatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "2")
        assert threads.settle(Config(), *arguments).threads == "2"
    with monkeypatch.context() as patch:
        patch.setattr("train.ranks.launched", lambda: True)
        assert threads.settle(Config(), *arguments).threads == "auto"
    assert threads.settle(Config(threads="1"), *arguments).threads == "1"
    assert torch.get_num_threads() == 1
    assert threads.settle(Config(), *arguments).threads == "1"


def test_candidates():
    assert [threads.candidates(n) for n in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5", ""])
def test_numbers_of_threads_that_there_are_not(wrong, capsys, tmp_path):
    assert main([f"--threads={wrong}", "--out", str(tmp_path / "r")]) == 2
    assert "--threads must be auto or an integer in 1..999, got" in capsys.readouterr().err


def test_a_pace_that_has_dropped_is_noticed_once(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(threads.time, "perf_counter", lambda: clock[0])
    pace, said = threads.Pace(0), []
    seconds = [1.0] * 5 + [2.9] * 20 + [3.5] * 8 + [1.0] + [3.5] * 20
    for step, each in enumerate(seconds, start=1):
        clock[0] += each
        said.append(pace.has_dropped(step))
        clock[0] += 100.0  # a picture is drawn
        pace.begin(step)
    assert [k for k, now in enumerate(said) if now] == [34 + 8]  # 9 times 3.5 s are 30


def test_the_advice_is_a_command(tmp_path, monkeypatch, capsys):
    answers = itertools.chain([False, True], itertools.repeat(False))
    monkeypatch.setattr(threads.Pace, "has_dropped", lambda *_: next(answers))
    config = line_config(out=str(tmp_path / "a run"))
    fit("x", Line(), line_loss, line_data(), config, 20, run=tmp_path)
    (command,) = re.findall(r"fastest now: python -m train (.+)", capsys.readouterr().err)
    given = vars(parser().parse_args(shlex.split(command)))
    assert given["threads"] == "auto" and given["resume"] and given["out"] == config.out
