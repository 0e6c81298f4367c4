"""docs/equations.md as the tests read it: `-v` names the equations that a test proves, and a run of
all laws is red unless each equation's test has passed.

A plugin, so that it also works where pytest-xdist's controller only gathers what workers report.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAWS = Path(__file__).parent


def rows(text: str) -> list[list[str]]:
    """The cells of the index's table; a bar inside a formula is written \\|."""
    lines = [line for line in text.splitlines() if re.match(r"\| (?!paper)\w", line)]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


INDEX = rows((ROOT / "docs/equations.md").read_text(encoding="utf-8"))


def named_tests(row: list[str]) -> list[str]:
    """The tests that a row names, such as laws/test_02_forward.py::test_q_posterior_on_a_grid."""
    return re.findall(r"`([^`]+)`", row[4])


def name_of(nodeid: str) -> str:
    """A test as the index names it, from any of its node ids: no root, no parameters."""
    path, _, test = nodeid.partition("::")
    return f"{'/'.join(Path(path).parts[-2:])}::{test.partition('[')[0]}"


PROVED: dict[str, dict[str, list[str]]] = {}  # test -> paper -> equations
for row in INDEX:
    for test in named_tests(row):
        PROVED.setdefault(test, {}).setdefault(row[0], []).append(row[1])


def equations(nodeid: str) -> str:
    """«DDPM Eq. 2, Eq. 4», the equations that a test proves; nothing where it proves none."""
    papers = PROVED.get(name_of(nodeid), {})
    return "; ".join(f"{paper} {', '.join(numbers)}" for paper, numbers in papers.items())


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report: pytest.TestReport) -> object:
    category, letter, word = yield
    proved = equations(report.nodeid) if isinstance(report, pytest.TestReport) else ""
    if report.when != "call" or not proved:
        return category, letter, word
    if isinstance(word, str):
        return category, letter, f"{word}  {proved}"
    return category, letter, (f"{word[0]}  {proved}", word[1])  # with the colours of its own


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a worker of xdist reports to the controller
        config.pluginmanager.register(EveryEquation(config), "every-equation")


class EveryEquation:
    """How the tests of the index ended."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.outcomes: dict[str, set[str]] = {}
        self.unproved: list[str] = []

    @property
    def whole(self) -> bool:
        """Whether this run was to be of all laws. One that was told to leave some out is not."""
        option = self.config.option
        left_out = any(
            getattr(option, name, None)
            for name in ("keyword", "markexpr", "deselect", "lf", "ignore", "ignore_glob")
        )
        asked = [self.config.invocation_params.dir / arg for arg in self.config.args]
        whole = any(path.resolve() == LAWS or path.resolve() in LAWS.parents for path in asked)
        return whole and not left_out and not option.collectonly

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            self.outcomes.setdefault(name_of(report.nodeid), set()).add(outcome)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """A test that was skipped leaves the run green, but not its equation proved."""
        if self.whole:
            self.unproved = [test for test in PROVED if self.outcomes.get(test) != {"passed"}]
        if self.unproved and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """With -v the index itself; and in any case what is not proved."""
        if self.whole and self.config.get_verbosity() > 0:
            terminalreporter.section("the equation index")
            for row in INDEX:
                paper, equation, formula = row[:3]
                name = f"{paper} {equation}"
                line = f"{name:<16} {formula}".replace("\\|", "|")
                terminalreporter.write_line(f"{line}  [{', '.join(named_tests(row)) or '—'}]")
        for test in self.unproved:
            how = ", ".join(sorted(self.outcomes.get(test, {"did not run"})))
            terminalreporter.write_line(f"not proved: {equations(test)} ({test}: {how})", red=True)
