"""`make mutants`: small faults put into the code, one at a time; does a test notice?

mutmut's operators make the mutants of every file. Some of each folder's are drawn from a seed, and
each is tried in a copy of the project: the folder's test files run, first the tests that name what
is changed, until one is red or SECONDS are over. docs/mutants.md has the scores.

    python tests/mutants.py ddpm train/evaluate --count 50   # more of two folders
    python tests/mutants.py ddpm:7 ddpm:12                   # these two again
"""

import argparse
import contextlib
import importlib
import inspect
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest
from mutations import Mutant, mutants
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]

# A folder's code, and the tests that try it, the quickest first.
FOLDERS = {
    "ddpm": ("ddpm/*.py", """reliability/test_checks.py laws/test_0[1-57-9]* laws/test_1[0-2]*
        laws/test_15*"""),
    "unet": ("unet/*.py", """laws/test_06* programs/test_unet.py programs/test_judge.py
        programs/test_files.py programs/test_device.py programs/test_weights.py
        reliability/test_checks.py"""),
    "guidance": ("guidance/[acdn]*.py", """laws/test_0[89]* laws/test_1[0-2]*
        reliability/test_checks.py programs/test_scenes.py"""),
    "guidance, for diffusers": ("guidance/[ps]*.py", "laws/test_14_s*"),
    "guidance/app": ("guidance/app/*.py guidance/__main__.py", """programs/test_pictures.py
        programs/test_draw.py programs/test_flags.py programs/test_memory.py
        programs/test_guidance_command.py programs/test_sentence.py"""),
    "train": ("train/*.py", """programs/test_training_by_hand.py programs/test_data.py
        programs/test_objectives.py programs/test_training.py programs/test_report.py
        programs/test_threads.py programs/test_later.py reliability/test_states.py
        reliability/test_locks.py
        programs/test_precision.py programs/test_config_fields.py programs/test_folder.py
        reliability/test_data_files.py programs/test_train_command.py
        reliability/test_interruptions.py programs/test_scenes.py reliability/test_ranks.py"""),
    "train/evaluate": ("train/evaluate/*.py", """programs/test_metrics.py
        programs/test_judge.py programs/test_results.py programs/test_evaluate.py"""),
    "train/experiments": ("train/experiments/*.py", """laws/test_14_w*
        programs/test_exact_worlds.py programs/test_experiments.py programs/test_worlds.py
        programs/test_later.py programs/test_scenes.py programs/test_docs.py"""),
    "train/benchmark": ("train/benchmark/*.py", """programs/test_benchmark.py
        programs/test_docs.py"""),
}  # fmt: skip

# Imported once; every mutant's run is forked from here.
LIBRARIES = ("torch._dynamo", "torchvision", "scipy.stats", "sklearn.datasets",
             "matplotlib.figure", "pandas", "torchmetrics.image.fid")  # fmt: skip
OUR_FAULT = 9  # the exit code where pytest itself can't run


def spent() -> float:
    """CPU seconds, those of the processes that tests have started among them."""
    return sum(os.times()[:4])


class Tests:
    """The plugin of a mutant's run: which tests go first, and when to stop."""

    def __init__(self, mutant: Mutant, seconds: float) -> None:
        self.names = mutant.name, ".".join(mutant.path.with_suffix("").parts)
        self.end = spent() + seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        name, module = self.names

        def far(item: pytest.Function) -> int:
            text = item.path.read_text()
            near = name in inspect.getsource(item.function), name in text, module in text, True
            return near.index(True)

        items.sort(key=far)

    def pytest_runtest_protocol(self) -> None:
        if spent() > self.end:
            os._exit(0)  # none was red, or pytest would have stopped


def noticed(mutant: Mutant, copy: Path, tests: list[str], seconds: float) -> str:
    """Which test is red, or "hangs", or "" for nothing; in a fork."""
    said = copy.parent / "said"
    if not (child := os.fork()):
        try:
            os.setsid()
            os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
            os.dup2(1, 2)
            os.chdir(copy)
            sys.path[0] = os.environ["PYTHONPATH"] = str(copy)
            flags = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={copy.parent / 'tmp'}",
                     "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip
            os._exit(pytest.main([*flags, *tests], [Tests(mutant, seconds)]))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(OUR_FAULT)
    end, (done, status) = time.monotonic() + 10 * seconds, (0, 0)
    while not done and time.monotonic() < end:
        time.sleep(0.1)
        done, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done:
        os.waitpid(child, 0)
        return "hangs"
    text = said.read_text(errors="replace")
    if os.waitstatus_to_exitcode(status) == OUR_FAULT:
        sys.exit(text)
    red = re.search(r"^(?:FAILED|ERROR) .*?(tests/\S+)", text, re.MULTILINE)
    return "" if not status else red[1] if red else "no test can start"


def put(path: Path, code: str) -> None:
    path.write_text(code)
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def try_folder(folder: str, numbers: list[int], copy: Path, flags: argparse.Namespace) -> str:
    """A line for each mutant, with its diff if it survives; gives the table's row."""
    globs, files = (text.split() for text in FOLDERS[folder])
    found = [m for glob in globs for p in sorted(ROOT.glob(glob))
             for m in mutants(ROOT, p.relative_to(ROOT))]  # fmt: skip
    tests = [str(p) for file in files for p in sorted((copy / "tests").glob(file))]
    random.Random(f"{folder} {flags.seed}").shuffle(found)
    numbers, killed = numbers or list(range(min(flags.count, len(found)))), 0
    for number in numbers:
        mutant, begin = found[number], time.monotonic()
        put(copy / mutant.path, mutant.code())
        by = noticed(mutant, copy, tests, flags.seconds)
        put(copy / mutant.path, mutant.module.code)
        killed += bool(by)
        print(f"{folder}:{number}", mutant.path, f"{time.monotonic() - begin:.0f} s",
              by or f"SURVIVED\n{mutant.diff()}", sep=" · ", flush=True)  # fmt: skip
    low, high = binomtest(killed, len(numbers)).proportion_ci(method="wilson")
    return (f"| {folder} | {len(found):,} | {len(numbers)} | {killed} | {len(numbers) - killed} "
            f"| {killed / len(numbers):.0%} | {low:.0%} to {high:.0%} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Do the tests notice small faults?")
    parser.add_argument("what", nargs="*", default=list(FOLDERS), help="FOLDER or FOLDER:NUMBER")
    parser.add_argument("--count", type=int, default=25, help="mutants a folder")
    parser.add_argument("--seconds", type=float, default=60, help="of CPU time for tests a mutant")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    flags = parser.parse_args()
    wanted: dict[str, list[int]] = {}
    for folder, _, number in (what.partition(":") for what in flags.what):
        wanted.setdefault(folder, []).extend([int(number)] if number else [])
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        left = shutil.ignore_patterns(".*", "data", "runs", "__pycache__", "build")
        shutil.copytree(ROOT, copy, ignore=left)
        if (ROOT / "data").exists():
            (copy / "data").symlink_to(ROOT / "data")
        rows = [try_folder(*which, copy, flags) for which in wanted.items()]
    print("| folder | mutants | tried | killed | survived | score | 95 % |",
          "|---|---|---|---|---|---|---|", *rows, sep="\n")  # fmt: skip


if __name__ == "__main__":
    main()
