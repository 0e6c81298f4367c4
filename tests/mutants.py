"""`make mutants`: small faults put into the code, one at a time; does a test notice?

mutmut's operators make the mutants of every file. Of each folder's some are drawn from a seed, and
each is tried in a copy of the project: the folder's test files run, those tests first that name the
changed function, until one is red or SECONDS are over. What is left out and what survives is
explained in docs/mutants.md.

    python tests/mutants.py                                  # COUNT of every folder
    python tests/mutants.py ddpm train/evaluate --count 50   # more of two folders
    python tests/mutants.py ddpm:7 ddpm:12                   # these two again
"""

import argparse
import difflib
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
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
import pytest
from mutmut.mutation import file_mutation
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]

# What each folder's code is, and the tests that try it, the quickest first.
FOLDERS = {
    "ddpm": ("ddpm/*.py", "laws/test_0[1-57-9]* laws/test_1[0-2]* laws/test_15* "
             "reliability/test_checks.py"),
    "unet": ("unet/*.py", "laws/test_06* programs/test_unet.py programs/test_judge.py "
             "programs/test_device.py programs/test_weights.py reliability/test_checks.py"),
    "guidance": ("guidance/[!_]*.py", "laws/test_0[89]* laws/test_1[0-2]* "
                 "reliability/test_checks.py laws/test_14_s*"),
    "guidance/app": ("guidance/app/*.py guidance/__main__.py", "programs/test_pictures.py "
                     "programs/test_draw.py programs/test_flags.py programs/test_memory.py "
                     "programs/test_guidance_command.py programs/test_sentence.py"),
    "train": ("train/*.py", "programs/test_training_by_hand.py programs/test_data.py "
              "programs/test_objectives.py programs/test_training.py programs/test_report.py "
              "programs/test_threads.py reliability/test_states.py reliability/test_locks.py "
              "programs/test_precision.py programs/test_config_fields.py programs/test_folder.py "
              "reliability/test_data_files.py programs/test_train_command.py "
              "reliability/test_interruptions.py programs/test_scenes.py"),
    "train/evaluate": ("train/evaluate/*.py", "programs/test_metrics.py programs/test_judge.py "
                       "programs/test_evaluate.py"),
    "train/experiments": ("train/experiments/*.py", "programs/test_exact_worlds.py "
                          "programs/test_experiments.py programs/test_worlds.py "
                          "programs/test_later.py"),
    "train/benchmark": ("train/benchmark/*.py", "programs/test_benchmark.py"),
}  # fmt: skip

WORDS = {"help", "metavar", "description", "epilog", "prog", "usage", "desc", "unit"}
PIXELS = {"fontsize", "figsize", "size", "dpi", "color", "alpha", "linewidth", "linestyle", "marker",
          "markersize", "loc", "ncol", "pad", "frameon", "label", "layout", "zorder"}  # fmt: skip
PLOTS = re.compile(r"\.(set_\w+|legend|tick_params|savefig|subplots|annotate|text|axh?line|axv?line|"
                   r"plot|fill_between|scatter|imshow|suptitle|grid)$")  # fmt: skip
LIBRARIES = ("torch._dynamo", "torchvision", "scipy.stats", "sklearn.datasets", "matplotlib.figure",
             "pandas", "hypothesis.strategies", "torchmetrics.image.fid", "einops", "xdist.plugin",
             "nbmake.pytest_plugin", "safetensors.torch", "tqdm", "PIL.Image")  # fmt: skip

skip_by_default = MutationVisitor._skip_node_and_children


def code_of(node: cst.CSTNode) -> str:
    return cst.Module([]).code_for_node(node)


def skip(self: MutationVisitor, node: cst.CSTNode) -> bool:
    if isinstance(node, cst.FunctionDef):
        return False  # decorated ones are mutated as well
    if isinstance(node, cst.If) and "__name__" in code_of(node.test):
        return True
    if isinstance(node, cst.Call) and PLOTS.search(code_of(node.func)):
        return True
    words = isinstance(node, cst.Arg) and not in_the_score(node)
    return isinstance(node, cst.Raise) or words or skip_by_default(self, node)


def in_the_score(node: cst.CSTNode) -> bool:
    """Whether a change of the node is more than one of wording or of a plot's pixels."""
    if isinstance(node, cst.Arg):
        name = node.keyword.value if node.keyword else ""
        return name not in WORDS | PIXELS and in_the_score(node.value)
    if isinstance(node, cst.ConcatenatedString | cst.FormattedString):
        return False
    return not (isinstance(node, cst.SimpleString) and " " in node.value)


def counts(mutation: Mutation) -> bool:
    old, new = mutation.original_node, mutation.mutated_node
    if isinstance(old, cst.Call) and isinstance(new, cst.Call):
        return all(in_the_score(arg) for arg in old.args if arg not in new.args)
    return in_the_score(old)


@dataclass
class Mutant:
    path: Path
    module: cst.Module
    mutation: Mutation
    names: tuple[str, str]  # of the function or class that is changed, and of the module

    def code(self) -> str:
        change = self.mutation.original_node, self.mutation.mutated_node
        return self.module.deep_replace(*change).code

    def diff(self) -> str:
        lines = (code.splitlines() for code in (self.module.code, self.code()))
        return "\n".join(list(difflib.unified_diff(*lines, n=0, lineterm=""))[2:])


def mutants(path: Path) -> list[Mutant]:
    module, mutations, *_ = file_mutation.create_mutations(str(path), (ROOT / path).read_text())
    owner = {f: node.name.value for node in module.body if isinstance(node, cst.ClassDef)
             for f in node.body.body}  # fmt: skip
    dotted = ".".join(path.with_suffix("").parts)
    found = []
    for mutation in filter(counts, mutations):
        outer = mutation.contained_by_top_level_function
        name = owner.get(outer) or (outer.name.value if isinstance(outer, cst.FunctionDef) else "")
        found.append(Mutant(path, module, mutation, (name or dotted, dotted)))
    return found


class Tests:
    """The plugin of a mutant's own run: which tests go first, and when to stop."""

    def __init__(self, names: tuple[str, ...], seconds: float) -> None:
        self.names, self.end = names, time.monotonic() + seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        name, dotted = self.names

        def far(item: pytest.Function) -> int:
            text = item.path.read_text()
            near = name in inspect.getsource(item.function), name in text, dotted in text
            return near.index(True) if any(near) else len(near)

        items.sort(key=far)

    def pytest_runtest_protocol(self) -> None:
        if time.monotonic() > self.end:
            os._exit(0)  # none was red, or pytest would have stopped

    def pytest_exception_interact(self, report: pytest.TestReport) -> None:
        print("RED", report.nodeid, flush=True)


def tested(copy: Path, tests: list[str], names: tuple[str, ...], seconds: float) -> str:
    """What noticed: a test's name, "hangs", or "" for nothing; in a fork that has the libraries."""
    said = copy.parent / "said"
    if not (child := os.fork()):
        os.setsid()
        os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os.chdir(copy)
        sys.path[0] = os.environ["PYTHONPATH"] = str(copy)
        flags = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={copy.parent / 'tmp'}"]
        os._exit(bool(pytest.main([*flags, *tests], [Tests(names, seconds)])))
    end, status = time.monotonic() + 3 * seconds + 60, (0, 0)
    while not status[0] and time.monotonic() < end:
        time.sleep(0.1)
        status = os.waitpid(child, os.WNOHANG)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if not status[0]:
        os.waitpid(child, 0)
        return "hangs"
    red = re.search("^RED (.*)", said.read_text(errors="replace"), re.MULTILINE)
    return "" if not status[1] else red[1] if red else "no test can start"


def put(path: Path, code: str) -> None:
    path.write_text(code)
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def row(folder: str, tried: int, killed: int) -> str:
    low, high = binomtest(killed, tried).proportion_ci(method="wilson")
    return (f"| {folder} | {tried} | {killed} | {tried - killed} | {killed / tried:.0%} "
            f"| {low:.0%} to {high:.0%} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=list(FOLDERS), help="FOLDER, or FOLDER:NUMBER")
    parser.add_argument("--count", type=int, default=25, help="mutants a folder")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seconds", type=float, default=60, help="of tests a mutant, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    flags = parser.parse_args()
    MutationVisitor._skip_node_and_children = skip
    for library in LIBRARIES:
        importlib.import_module(library)
    numbers: dict[str, list[int]] = {}
    for folder, _, number in (what.partition(":") for what in flags.what):
        drawn = [int(number)] if number else range(flags.first, flags.first + flags.count)
        numbers.setdefault(folder, []).extend(drawn)
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        left = shutil.ignore_patterns(".*", "data", "runs", "__pycache__", "build")
        shutil.copytree(ROOT, copy, ignore=left)
        if (ROOT / "data").exists():
            (copy / "data").symlink_to(ROOT / "data")
        for folder, drawn in numbers.items():
            code, tests = ([p for glob in globs.split() for p in sorted(base.glob(glob))]
                           for base, globs in zip((ROOT, ROOT / "tests"), FOLDERS[folder]))  # fmt: skip
            found = [m for p in code for m in mutants(p.relative_to(ROOT))]
            random.Random(f"{folder} {flags.seed}").shuffle(found)
            killed = tried = 0
            for number in drawn:
                if number >= len(found):
                    break
                mutant, begin = found[number], time.monotonic()
                put(copy / mutant.path, mutant.code())
                files = [str(p.relative_to(ROOT)) for p in tests]
                by = tested(copy, files, mutant.names, flags.seconds)
                put(copy / mutant.path, mutant.module.code)
                tried, killed = tried + 1, killed + bool(by)
                print(f"{folder}:{number} {mutant.path}", f"{time.monotonic() - begin:.0f} s",
                      by or f"SURVIVED\n{mutant.diff()}", sep=" · ", flush=True)  # fmt: skip
            print(f"of {len(found)} mutants of {folder} {tried} tried, {killed} killed", flush=True)
            table.append(row(folder, tried, killed))
    print("| folder | tried | killed | survived | score | 95 % |", "|---|---|---|---|---|---|",
          *table, sep="\n")  # fmt: skip


if __name__ == "__main__":
    main()
