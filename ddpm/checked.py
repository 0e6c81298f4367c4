"""Checks at the door: what an argument must be stands in its annotation.

`@checked` looks at the arguments of a call before the body runs, so that a body is its formula and
a sampler, a plain generator, refuses at the call and not at its first step. A rule is a function of
the argument's name, its value, and all the arguments of the call; they live in `ddpm/checks.py`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Call = dict[str, Any]
Rule = Callable[[str, Any, Call], None]


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with a look at each argument whose annotation carries a rule."""
    signature = inspect.signature(function)
    rules = {
        name: parameter.annotation.__metadata__[0]
        for name, parameter in signature.parameters.items()
        if hasattr(parameter.annotation, "__metadata__")
    }

    @functools.wraps(function)
    def door(*args: P.args, **kwargs: P.kwargs) -> R:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        for name, rule in rules.items():
            rule(name, call.arguments[name], call.arguments)
        return function(*args, **kwargs)

    return door
