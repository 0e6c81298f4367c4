"""CSV files of results: what is measured stays, and what is no such file is refused."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import start

from train.evaluate import results as results_module
from train.evaluate.__main__ import main as evaluate
from train.evaluate.results import Results, markdown, read_rows, write_rows
from train.experiments.__main__ import main as experiments

ROOT = Path(__file__).parents[2]
ROWS = [
    {"method": "a, b", "w": 0.1, "seed": 0, "value": 1 / 3},
    {"method": "None", "w": 2, "seed": 2**61 + 1, "value": float("nan")},
]


def test_results_come_back_as_they_were(tmp_path):
    path = tmp_path / "deep" / "x.csv"
    results = Results(path)
    results.add(ROWS[:1])
    results.add(ROWS[1:])
    first, second = "a, b", "None"
    assert path.read_text() == (
        f'method,w,seed,value\n"{first}",0.1,0,0.333333\n{second},2,{2**61 + 1},nan\n'
    )
    again = Results(path)
    assert list(again.rows["method"]) == [first, second]  # a name, and no missing value
    assert again.rows.equals(results.rows) and list(again.rows["seed"]) == [0, 2**61 + 1]
    assert list(again.matching({"method": "a, b", "w": 0.1, "seed": 0})["value"]) == [0.333333]
    assert len(again.matching({"w": 2.0})) == 1 and again.matching({"seed": 2}).empty
    with pytest.raises(ValueError, match=r"x\.csv has the columns .* not those of this version"):
        again.add([{"other": 1}])
    assert {p.name for p in path.parent.iterdir()} == {"x.csv", ".x.csv.lock"}


def test_what_is_there_stays_byte_for_byte(tmp_path):
    """Also what we would write otherwise, and a last line that somebody's editor left open."""
    path = tmp_path / "x.csv"
    path.write_text("method,w,seed,value\nnone,0.10,0,0.3333333333")
    Results(path).add(ROWS[:1])
    lines = ["method,w,seed,value", "none,0.10,0,0.3333333333", '"a, b",0.1,0,0.333333']
    assert path.read_text().splitlines() == lines
    assert list(read_rows(path)["method"]) == ["none", "a, b"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs/results").glob("*.csv")), ids=lambda p: p.stem
)
def test_the_measured_files_load(path, tmp_path):
    write_rows(tmp_path / "x.csv", read_rows(path))
    assert (tmp_path / "x.csv").read_bytes() == path.read_bytes()


def test_a_full_disk_takes_nothing_away(tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    Results(path).add(ROWS[:1])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"x\.csv can't be written: .*No space left"):
        Results(path).add(ROWS[1:])
    assert path.read_bytes() == before and not list(tmp_path.glob("*.partial-*"))


def add_slowly(path, name, ready):
    """Read, wait until the other has read as well, and only then add twenty rows."""
    results = Results(path)
    (ready / name).touch()
    end = time.monotonic() + 60  # or the other has not come
    while len(list(ready.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    for k in range(20):
        results.add([{"method": name, "seed": k}])


def test_two_processes_lose_no_row(tmp_path):
    path, ready = tmp_path / "x.csv", tmp_path / "ready"
    ready.mkdir()
    every = [start(add_slowly, path, name, ready, said=tmp_path / name) for name in "ab"]
    for process in every:
        process.join(120)
    assert [process.exitcode for process in every] == [0, 0]
    rows = read_rows(path)
    assert sorted(zip(rows["method"], rows["seed"], strict=True)) == [
        (name, k) for name in "ab" for k in range(20)
    ]


def test_a_job_that_another_process_has_done_is_not_added_again(tmp_path):
    one, other = Results(tmp_path / "x.csv"), Results(tmp_path / "x.csv")
    key = {"method": "a, b", "w": 0.1, "seed": 0}
    assert one.add(ROWS[:1], unless=key) and not other.add(ROWS[:1], unless=key)
    assert len(read_rows(one.path)) == len(other.rows) == 1  # and the other knows the row now
    assert other.add(ROWS[1:], unless={**key, "seed": 1}) and len(other.rows) == 2


def test_a_process_that_dies_leaves_no_lock(tmp_path):
    dying = start(die_with_the_lock, tmp_path / "x.csv", said=tmp_path / "said")
    dying.join(60)
    assert dying.exitcode == -signal.SIGKILL
    Results(tmp_path / "x.csv").add(ROWS)
    assert len(read_rows(tmp_path / "x.csv")) == 2


def die_with_the_lock(path):
    with results_module._alone(path):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("place", ["deep/x.csv", "x.csv"])
def test_what_cant_be_written_is_refused_at_the_start(place, unprivileged):
    """Also where the file and its lock are there already: rows are a new file in its place."""
    Results(unprivileged / "x.csv").add(ROWS)
    unprivileged.chmod(0o500)
    try:
        with pytest.raises(OSError, match="can't be written"):
            Results(unprivileged / place).check_writable()
    finally:
        unprivileged.chmod(0o700)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "decode"),
        (b"<html>\n<body>a, b, c</body>\n</html>\n", "lengths"),
        (b"method,w\nnone,1\nnone,1,2\n", "lengths"),
        (b"method,w\nnone,1\nnone\n", "lengths"),
        (b"method,w\nnone,1\nnone,much\n", "w should hold numbers"),
        (b'method,w\n"none,1\n', ""),
        (None, "directory"),
    ],
)
def test_other_files_are_refused_in_one_line(content, reason, tmp_path, capsys):
    path = tmp_path / "price-of-w.csv"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"price-of-w.csv is not a CSV file of results: .*{reason}"
    ):
        Results(path)
    assert experiments(["price-of-w", "--plot", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is not a CSV file of results" in error and error.count("\n") == 1
    assert content is None or path.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is nothing in"),
        ("data,weights\nmnist,x\n", "is of another version, without dtype"),
        ("data,weights,dtype,steps,n\nmnist,x,y,1,2\n", "is of another version, without 'w'"),
    ],
)
def test_files_of_another_version_are_refused_in_one_line(text, reason, tmp_path, capsys):
    (tmp_path / "price-of-w.csv").write_text(text)
    assert experiments(["price-of-w", "--plot", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1 and (tmp_path / "price-of-w.csv").exists()


def test_markdown_is_aligned():
    text = markdown(read_rows(ROOT / "docs/results/quality-cpu.csv"))
    lengths = {len(line) for line in text.splitlines()}
    assert len(lengths) == 1 and text.splitlines()[1].startswith("|:--")


@pytest.mark.parametrize("command", [evaluate, lambda flags: experiments(["samplers", *flags])])
def test_without_pandas_one_line_says_what_to_install(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.delitem(sys.modules, "train.evaluate.results")
    importlib.invalidate_caches()
    assert command(["--weights", "weights/digits"]) == 2
    error = capsys.readouterr().err
    assert "need pandas: pip install 'ddpm-guidance[experiments]'" in error
    assert error.count("\n") == 1


def test_training_and_every_help_text_need_no_pandas():
    """Nor do they wait for what takes seconds and comes later, if at all."""
    code = """
import sys
for name in ("pandas", "torchvision", "torchmetrics", "matplotlib", "sklearn"):
    sys.modules[name] = None
import guidance.app.command, train.__main__
from train.evaluate.__main__ import parser as evaluate
from train.experiments.__main__ import parser as experiments
evaluate().format_help(), experiments().format_help()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
