"""Two at once: a run's directory is one process's at a time, and a dead one holds nothing."""

import os
import shutil
import signal
import sys
import time

import forked
import pytest
from filelock import FileLock
from helpers import FLAGS, Line, at_call, files, line_config, line_data, train
from test_ranks import in_ranks
from test_ranks import train as train_in_rank

from train.__main__ import main
from train.directory import LOCK
from train.loop import fit


@pytest.fixture
def live(tmp_path):
    """A run that goes on until it is killed, in another process."""
    run = tmp_path / "r"
    flags = [*FLAGS, "--steps", "1000000", "--out", str(run)]
    process = forked.start(main, flags, said=tmp_path / "said")
    while not (run / "unet-raw.safetensors").exists():
        assert process.is_alive(), (tmp_path / "said.err").read_text()
        time.sleep(0.01)
    yield run, process
    process.kill()
    process.join()


def test_a_second_process_is_refused_until_the_first_is_dead(live, capsys):
    run, process = live
    (run / "guidance.png").write_text("what --overwrite would take away")
    started = FLAGS, ["--overwrite", *FLAGS], ["--resume"], ["--resume", "--steps", "2000000"]
    for flags in started:
        assert main([*flags, "--out", str(run)]) == 2
        error = capsys.readouterr().err
        assert f"--out {run}: another process trains there" in error and error.count("\n") == 1
    assert process.is_alive() and (run / "guidance.png").exists()
    assert '"steps": 1000000,' in (run / "config.json").read_text()
    process.kill()  # -9
    process.join()
    assert train("--out", run, "--overwrite", "--classifier-steps", 0, "--judge-steps", 0) == 0
    assert not (run / "guidance.png").exists()


def test_the_lock_goes_with_the_command(finished, tmp_path):
    """Within one process, too: after an end, an error and an interruption."""
    run = tmp_path / "r"
    shutil.copytree(finished, run)
    (run / "unet.state").write_bytes(b"broken")
    (run / "unet.state.previous").write_bytes(b"broken")
    assert main(["--out", str(run), "--resume"]) == 2
    with FileLock(run / LOCK).acquire(timeout=0):
        assert main(["--out", str(run), "--resume"]) == 2


def test_nothing_is_put_into_a_directory_that_is_another_s(tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert train("--out", tmp_path) == 2 and files(tmp_path) == {"notes.txt"}
    assert "holds another run" in capsys.readouterr().err


def test_what_a_desktop_leaves_behind_is_no_run(tmp_path):
    (tmp_path / ".DS_Store").touch()
    short = ("--steps", 2, "--classifier-steps", 0, "--judge-steps", 0)
    assert train("--out", tmp_path, *short) == 0


def test_two_ranks_are_refused_with_one_message(tmp_path):
    run = tmp_path / "r"
    run.mkdir()
    with FileLock(run / LOCK):
        codes, _, err = in_ranks(train_in_rank, "--steps", "3", run)
    assert codes[0] == 2 and codes[1] != 0, err
    assert err.count("another process trains there") == err.count("error:") == 1, err
    assert files(run) <= {LOCK}


def test_without_locks_it_is_said(tmp_path, monkeypatch, capsys):
    def none(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr("train.directory.FileLock.acquire", none)
    assert train("--out", tmp_path / "r", "--steps", 2, "--classifier-steps", 0) == 0
    assert "has no locks; see to it" in capsys.readouterr().err


# -- a terminal that is closed ---------------------------------------------------------------------


def in_terminal(name, flags):
    """`python -m train` in a session of its own, whose terminal is `name`."""
    os.setsid()
    terminal = os.open(name, os.O_RDWR)  # a session's first terminal is the controlling one
    for stream in (0, 1, 2):
        os.dup2(terminal, stream)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    return main(flags)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="terminals differ")
def test_a_closed_terminal_saves_the_state(tmp_path):
    run, (master, slave) = tmp_path / "r", os.openpty()
    flags = [*FLAGS, "--steps", "1000000", "--sample-every", "1000000", "--out", str(run)]
    process = forked.start(in_terminal, os.ttyname(slave), flags, said=tmp_path / "said")
    os.set_blocking(master, False)
    while not (run / "log.jsonl").exists():
        assert process.is_alive(), os.read(master, 10_000).decode()
        time.sleep(0.01)
    os.close(slave)
    os.close(master)
    process.join(60)
    assert process.exitcode == 130 and (run / "unet.state").exists()
    assert (run / "unet.safetensors").exists()


def test_nohup_is_heard(tmp_path):
    """A SIGHUP that is ignored stays ignored."""

    def hang_up(value):
        os.kill(os.getpid(), signal.SIGHUP)
        return value

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        training = fit(
            "x", Line(), at_call(3, hang_up), line_data(), line_config(), 9, run=tmp_path
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert training.step == 9
