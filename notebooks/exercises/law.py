"""The very law of tests/laws, run on a reader's function in the place of the project's."""

import importlib
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ddpm import cosine_schedule, linear_schedule

TESTS = Path(__file__).resolve().parents[2] / "tests"


class Law(NamedTuple):
    """A test, the name in its file behind which it looks for the function, and fixtures of ours."""

    file: str
    test: str
    name: str = ""
    fixtures: Callable[[Any], dict[str, Any]] = lambda function: {}


def from_tests(name: str) -> Any:
    """A module of tests/laws, which only a clone of the repository has."""
    for folder in (TESTS, TESTS / "laws"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    return importlib.import_module(name)


def cases(test: Callable[..., None], ours: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every set of arguments that pytest would call the test with."""
    oracles = from_tests("oracles")
    fixtures = {
        "mixture": [oracles.three_in_the_plane],
        "line": [oracles.three_on_a_line],
        "generator": [lambda: oracles.seeded(0)],
        "schedule": [linear_schedule, cosine_schedule],
    }
    values = {}
    for mark in getattr(test, "pytestmark", []):
        names, sets = mark.args
        names = names if isinstance(names, tuple) else (names,)
        values[names] = [v if len(names) > 1 else (v,) for v in sets]
    for name in inspect.signature(test).parameters:
        if name in ours:
            values[(name,)] = [(ours[name],)]
        elif name in fixtures:
            values[(name,)] = [(make(),) for make in fixtures[name]]
    for chosen in itertools.product(*values.values()):
        pairs = (zip(names, v, strict=True) for names, v in zip(values, chosen, strict=True))
        yield dict(itertools.chain.from_iterable(pairs))


def says(law: Law) -> str:
    """What the law is, in the words of its docstring."""
    return " ".join((inspect.getdoc(getattr(from_tests(law.file), law.test)) or "").split())


def holds(law: Law, function: Any) -> bool:
    """Whether the law passes with `function` where the project's own stood."""
    module = from_tests(law.file)
    before = getattr(module, law.name) if law.name else None
    try:
        if law.name:
            setattr(module, law.name, function)
        for arguments in cases(getattr(module, law.test), law.fixtures(function)):
            getattr(module, law.test)(**arguments)
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
        return False
    finally:
        if law.name:
            setattr(module, law.name, before)
    return True
