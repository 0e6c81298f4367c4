"""`make mutants`: small faults put into ddpm/ and guidance/, one at a time; does a test notice?

mutmut makes the mutants and runs, for each of them, the tests that call the function it is in.
Three things differ from its defaults. Functions under `@checked` and `@torch.no_grad()` are mutated
too, though mutmut leaves decorated ones alone. Nothing inside a `raise` is, which is the wording of
an error; whether it is raised is a matter of the condition before it. And the quickest tests run
first. What survives is explained in docs/mutants.md.
"""

import gc
import sys
import time
from collections import Counter

import libcst as cst
from mutmut import __main__ as mutmut
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.stats import status_by_exit_code

GOAL = 0.95

CAUGHT = ("killed", "timeout", "segfault")

skip_by_default = MutationVisitor._skip_node_and_children
arguments_by_default = PytestRunner._pytest_args_regular_run


def skip(self: MutationVisitor, node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Raise):
        return True
    if isinstance(node, cst.FunctionDef):
        code = [cst.Module([]).code_for_node(d.decorator) for d in node.decorators]
        if set(code) <= {"checked", "torch.no_grad()"}:
            return False
    return skip_by_default(self, node)


def quickest_first(self: PytestRunner, tests: list[str]) -> list[str]:
    # A mutant runs in a fork: whatever the collector visits there is copied, the whole of torch.
    gc.freeze()
    seconds = state().duration_by_test
    ordered = sorted(tests, key=lambda test: (seconds.get(test, 0), test))
    return [*arguments_by_default(self, ordered), "-p", "no:unraisableexception"]


def report() -> float:
    """Print the survivors as diffs, then the score = killed / (killed + survived)."""
    mutants, _ = mutmut.collect_source_file_mutation_data(mutant_names=())
    count: Counter[str] = Counter()
    by_file: dict[str, Counter[str]] = {}
    for data, name, exit_code in mutants:
        status = status_by_exit_code[exit_code]
        status = "killed" if status in CAUGHT else status
        count[status] += 1
        by_file.setdefault(str(data.path), Counter())[status] += 1
        if status != "killed":
            diff = get_diff_for_mutant(name, path=data.path).splitlines()
            changed = [line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")]
            print(f"{status}: {name}", *changed, sep="\n    ")
    for path, by_status in sorted(by_file.items()):
        print(f"{path}: {', '.join(f'{n} {status}' for status, n in by_status.items())}")
    score = count["killed"] / max(1, count["killed"] + count["survived"])
    print(f"{', '.join(f'{n} {status}' for status, n in count.items())}: {score:.1%} killed")
    return score


if __name__ == "__main__":
    MutationVisitor._skip_node_and_children = skip
    PytestRunner._pytest_args_regular_run = quickest_first
    begin = time.perf_counter()
    if sys.argv[1:] != ["report"]:
        mutmut.run.main(sys.argv[1:], standalone_mode=False)
    good = report() >= GOAL
    print(f"{(time.perf_counter() - begin) / 60:.0f} minutes")
    sys.exit(not good)
