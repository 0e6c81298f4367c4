"""How a command reads its flags and ends: paths, minus signs, consoles, memory, a free name."""

import argparse
import dataclasses
import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from commands import PARSERS
from tiny import perturbed

from ddpm import linear_schedule
from guidance.__main__ import main
from guidance.app.flags import Parser, add_flags, flag, read, run
from guidance.app.models import home, load_models
from train.evaluate.lab import LabFlags
from unet import Judge, NoisyClassifier, UNet, save
from unet.files import vacant

INFO = {"schedule": linear_schedule(100, beta_T=0.2).info, "classes": ["ant", "bee", "cat"]}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Every kind that takes numbers, and paths."""

    w: tuple[float, ...] = flag((0.0,), "some")
    k: tuple[int, ...] = flag((0,), "some")
    one: float = flag(0.0, "a number")
    word: str = flag("", "a word")
    place: str = flag("", "a path", path=True)
    go: bool = flag(False, "a switch")
    files: tuple[str, ...] = flag((), "paths", positional=True, path=True)


def parsed(*words):
    parser = Parser(prog="x")
    add_flags(parser, Flags)
    return read(Flags, vars(parser.parse_args([*words, *([] if "end" in words else ["end"])])))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--w", "-1,0,1"], "w", (-1, 0, 1)),
        (["--w", "-.5,-1e-3"], "w", (-0.5, -1e-3)),
        (["--w=-1,0"], "w", (-1, 0)),
        (["--k", "-3,-2"], "k", (-3, -2)),
        (["--one", "-2"], "one", -2),
        (["--one", "-2e0"], "one", -2),
        (["--word", "-1,2"], "word", "-1,2"),
        (["--go", "--w", "-1,2"], "w", (-1, 2)),
    ],
)
def test_a_list_may_begin_with_a_minus(words, name, value):
    assert getattr(parsed(*words), name) == value


@pytest.mark.parametrize("words", [["--w", "--go"], ["--w", "-x"], ["--w"], ["--go", "-1"]])
def test_a_flag_is_no_value(words, capsys):
    with pytest.raises(SystemExit):
        parsed(*words)
    assert capsys.readouterr().err.startswith("x: error: ")


def test_a_tilde_is_home_in_every_path_and_in_no_other_text(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = parsed("--place=~/a", "--word=~/a", "~/b", "end")
    assert found.place == f"{tmp_path}/a" and found.word == "~/a"
    assert found.files == (f"{tmp_path}/b", "end")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("home") / "weights"
    save(path / "unet.safetensors", perturbed(UNet), INFO)
    save(path / "unet-raw.safetensors", UNet(8, 1, 3, 8, (1, 2), 1, (4,)), INFO)
    save(path / "classifier.safetensors", perturbed(NoisyClassifier), INFO)
    save(path / "judge.safetensors", Judge(8, 1, 3, 4), INFO)
    return path


def test_weights_may_be_a_file(weights, tmp_path, capsys):
    """That file is the U-Net, and its directory has the rest; no other file passes for it."""
    averaged, raw = (
        load_models(weights / f"{name}.safetensors", classifier=True)
        for name in ("unet", "unet-raw")
    )
    same = load_models(weights).unet.state_dict()
    assert all(torch.equal(v, same[k]) for k, v in averaged.unet.state_dict().items())
    assert not all(torch.equal(v, same[k]) for k, v in raw.unet.state_dict().items())
    assert raw.classifier is not None
    assert home(weights) == home(weights / "unet.safetensors") == weights
    for name, message in (
        ("judge.safetensors", "judge.safetensors holds a Judge, not a UNet"),
        ("other.safetensors", f"no other.safetensors in the directory {weights}"),
        ("nowhere", "no unet.safetensors in"),
    ):
        line = ["none", "--weights", str(weights / name), "--out", str(tmp_path / "p.png")]
        assert main(line) == 2
        assert message in capsys.readouterr().err


def test_a_tilde_in_the_commands_paths(weights, monkeypatch, tmp_path):
    """Only a shell expands it, and only where a word begins with it."""
    monkeypatch.setenv("HOME", str(weights.parent))
    monkeypatch.chdir(tmp_path)
    line = ["none", "--weights=~/weights", "--out=~/made/p.png", "--save=~/made/s", "--steps", "2"]
    assert main(line) == 0
    made = weights.parent / "made"
    assert (made / "p.png").exists() and (made / "s" / "samples.npz").exists()
    assert not list(tmp_path.iterdir())


def shell(encoding, *words):
    return subprocess.run(
        [sys.executable, "-m", "guidance", *words],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_knows_no_null_sign(weights, encoding):
    """--help and an error have ∅ in them."""
    for words in (["negative", "--help"], ["--help"]):
        done = shell(encoding, *words)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        assert done.stdout.startswith(b"usage: python -m guidance")
    assert b"?" in shell(encoding, "negative", "--help").stdout
    done = shell(encoding, "none", "--weights", str(weights), "--class", "9")
    assert done.returncode == 2 and done.stdout == b""
    error = done.stderr.decode(encoding)
    assert "0..3 (3 is ?)" in error and error.strip().count("\n") == 0, error


def test_too_little_memory_is_one_line(capsys):
    def refused():
        torch.empty(10**15)  # the CPU's allocator has no type of its own

    for failing in (refused, raising(torch.OutOfMemoryError("CUDA out of memory. Tried to …")),
                    raising(MemoryError()), raising(RuntimeError("MPS backend out of memory (…)")),
                    ):  # fmt: skip
        assert run("python -m x", failing) == 2
        error = capsys.readouterr().err
        assert error == "python -m x: error: out of memory; fewer images at once may do\n"


def raising(error):
    def command():
        raise error

    return command


def test_what_only_sounds_like_too_little_memory_is_to_be_seen():
    """An illegal memory access is a fault of ours: its traceback stays."""
    for text in ("CUDA error: an illegal memory access was encountered", "mat1 and mat2", "memory"):
        with pytest.raises(RuntimeError, match=text):
            run("python -m x", raising(RuntimeError(text)))


def test_the_advice_is_a_flag_of_the_command(weights, tmp_path, monkeypatch, capsys):
    line = ["none", "--weights", str(weights), "--out", str(tmp_path / "p.png")]
    monkeypatch.setattr(
        "guidance.app.command.processes", lambda *_: raising(torch.OutOfMemoryError("…"))()
    )
    assert main(line) == 2
    assert "out of memory; a smaller --batch-size may do" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*line, "--batch-size", "1", "--steps", "2"]) == 0


def claim(path, barrier, names):
    barrier.wait()
    for _ in range(10):
        with vacant(path) as mine:
            assert mine.stat().st_size == 0
            mine.write_text("x")
            names.put(mine.name)


def test_a_name_is_given_once_to_any_number_of_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, names = context.Barrier(4), context.Queue()
    arguments = (tmp_path / "runs" / "p.png", barrier, names)
    workers = [context.Process(target=claim, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    given = {names.get(timeout=60) for _ in range(40)}
    for worker in workers:
        worker.join()
    assert given == {"p.png", *(f"p-{k}.png" for k in range(2, 41))}


def test_a_name_that_came_to_nothing_is_free_again(tmp_path):
    with pytest.raises(ValueError, match="no"), vacant(tmp_path / "p.png") as mine:
        raise ValueError("no")
    assert mine == tmp_path / "p.png" and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"p\.png can't be written"), vacant(tmp_path / "file/p.png"):
        pass


def all_parsers(parser):
    """A command's parser, and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from all_parsers(below)


@pytest.mark.parametrize("name", PARSERS)
def test_help_says_what_stands_in_the_code(name):
    """argparse reads "%" as a format of its own; its lines may end within a word."""
    plain = lambda text: "".join(text.split())  # noqa: E731
    for parser in all_parsers(PARSERS[name]()):
        said = plain(parser.format_help())
        texts = [a.help.replace("%%", "%") for a in parser._actions if a.option_strings]
        assert texts and all(plain(text) in said for text in texts)
        for a in parser._actions:  # a default is shown where there is one
            assert not ((a.required or a.nargs == 0) and "(default: " in (a.help or ""))
    if name == "train.experiments":
        assert plain("95 % intervals are over them") in said


def test_what_a_measurement_reads_may_lie_at_home():
    """~ is a home directory in all that names a place."""
    paths = {f.name: f.metadata["path"] for f in dataclasses.fields(LabFlags)}
    assert {name for name, path in paths.items() if path} == {"weights", "data_dir", "data"}
