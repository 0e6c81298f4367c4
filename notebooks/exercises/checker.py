"""What is said of a reader's function: right, by the laws, or wrong, and how."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from exercises.law import Law, holds, says

Function = Callable[..., Any]

AMBIGUOUS = (
    "`and`, `or` and a < t <= b ask a tensor for one yes or no, and it has one for each element: "
    "join two conditions by `&`, each of them in parentheses."
)


class Exercise(NamedTuple):
    """A function to fill in, what it is tried on, and the mistakes that the field makes with it."""

    right: Function
    arguments: Callable[[], tuple[Any, ...]]
    mistakes: dict[str, Function]  # what to say -> a function that makes the mistake
    laws: tuple[Law, ...]
    adapt: Callable[[Function], Any] = lambda yours: yours  # to what the laws call
    look: Callable[[Any], Any] = lambda result: result  # what of a random result is compared


def answer(exercise: Exercise, function: Function) -> Tensor:
    """What a function gives on the exercise's arguments, made anew: a generator moves on."""
    return torch.as_tensor(exercise.look(function(*exercise.arguments())), dtype=torch.float64)


def judge(exercise: Exercise, yours: Function) -> tuple[bool | None, str]:
    """(None, …) where the blank is still blank; else whether it is right, and a sentence."""
    wanted = answer(exercise, exercise.right)
    try:
        result = yours(*exercise.arguments())
        if result is ...:
            return None, "still blank."
        got = torch.as_tensor(exercise.look(result), dtype=torch.float64)
        first, second = (
            torch.as_tensor(r, dtype=torch.float64) for r in (result, yours(*exercise.arguments()))
        )
    except Exception as error:  # whatever a reader's line may raise
        if "ellipsis" in str(error):
            return None, "still blank."
        if "Boolean value of Tensor" in str(error):
            return False, AMBIGUOUS
        return False, f"your function stops: {type(error).__name__}: {error}"
    if first.shape != second.shape or not torch.allclose(first, second, equal_nan=True):
        return False, "the same seed gives another result: draw with generator=generator."
    if got.shape != wanted.shape:
        return False, f"the shape is {tuple(got.shape)} and should be {tuple(wanted.shape)}."
    for sentence, wrong in exercise.mistakes.items():
        if torch.allclose(got, answer(exercise, wrong), rtol=1e-6, atol=1e-9):
            return False, sentence
    for law in exercise.laws:
        if not holds(law, exercise.adapt(yours)):
            off = (got - wanted).abs().flatten()
            k = int(off.nan_to_num(torch.inf).argmax())
            told = f"where it should be {wanted.flatten()[k]:.4g} yours is {got.flatten()[k]:.4g}"
            return False, f"the law {law.test} does not hold; {told}."
    return True, "right. " + " ".join(
        f"The law {law.test} holds with your function in it. It says: {says(law)}"
        for law in exercise.laws
    )


def check(name: str, yours: Function) -> None:
    """Say in a line whether your function is the equation, and if not, what is wrong with it."""
    from exercises.diffusion import DIFFUSION  # here, so that these files may use Exercise
    from exercises.guidance import GUIDANCE
    from exercises.negative import NEGATIVE

    exercises = DIFFUSION | GUIDANCE | NEGATIVE
    if name not in exercises:
        raise ValueError(f"name must be one of {', '.join(exercises)}, got {name!r}")
    verdict, sentence = judge(exercises[name], yours)
    print(f"{ {True: '✓', False: '✗', None: '…'}[verdict] } {name}: {sentence}")
