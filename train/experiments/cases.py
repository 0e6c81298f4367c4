"""Runs with a negative class and without it, from the same noise, and what is asked of them.

DDIM with η = 0 adds no noise. So the run whose negative class starts at step k is the plain run up
to its state k, and goes on from there; the run that loses it at step k is the negative run up to
its state k.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm import Predictor, ddim, timesteps
from guidance.app.guides import classifier_free, negative, none
from train.evaluate.lab import Lab
from train.judge import ask
from train.scenes import BOLD, RING

W = 2.0  # of both guidances; with p₊ = ∅ it is DNG's λ
QUESTIONS = {  # of scenes: p₊ is one of these digits in turn, and p₋ a concept it may have
    "ring strongly implied": ((3, 8), RING),
    "ring half implied": ((0, 2, 4, 5, 6), RING),
    "ring weakly implied": ((1, 7), RING),
    "bold": (tuple(range(10)), BOLD),
}


def sixth_to_half(S: int) -> tuple[int, int]:
    """The start and stop step of NegPrompt's window, 5 and 15 of 30."""
    return max(1, S // 6), max(1, S // 2)


class Case(NamedTuple):
    """n runs from x_T: their labels, the two predictors, and the plain run's states."""

    c: Tensor  # p₊, (n,), ∅ = K
    negative: Tensor  # p₋, (n,)
    plain: Predictor
    guided: Predictor  # with the negative class
    states: list[Tensor]  # S+1 of (n, C, H, W): x_T first, the picture last
    visited: list[int]  # S values of t


def make_case(lab: Lab, kind: str, n: int, S: int, seed: int) -> Case:
    """kind: "pair" is every (p₊, p₋) in turn; "any" and "present" have p₊ = ∅; or a question.

    ValueError unless n is a multiple of the number of pairs, so that each comes as often.
    """
    K = lab.K
    if kind in QUESTIONS:
        digits, concept = QUESTIONS[kind]
        asked = [(digit, concept) for digit in digits]
    elif kind == "pair":
        asked = [(k, (k + 1 + j) % K) for j in range(K - 1) for k in range(K)]
    else:
        asked = [(K, k) for _ in range(K - 1) for k in range(K)]
    if n % len(asked):
        raise ValueError(f"--n must be a multiple of the {len(asked)} pairs of p₊ and p₋, got {n}")
    c, avoided = torch.tensor(asked)[torch.arange(n) % len(asked)].T  # (n,), (n,)
    x_T = lab.models.noise(n, torch.Generator().manual_seed(seed))
    visited, labels = timesteps(lab.models.schedule.T, S), c.to(lab.device)
    plain = (classifier_free(W) if c[0] < K else none())(lab.models, labels)
    states = run(lab, plain, x_T, visited)
    if kind == "present":
        avoided = ask(lab.judge, states[-1])[1].argmax(1)
    return Case(c, avoided, plain, negative(avoided, W)(lab.models, labels), states, visited)


def run(lab: Lab, predictor: Predictor, x: Tensor, visited: list[int]) -> list[Tensor]:
    """x and every state after it, as DDIM visits these t; x alone if there is none."""
    if not visited:
        return [x]
    with torch.autocast(lab.device.type, lab.dtype, enabled=lab.dtype is not None):
        return [x, *(step.x for step in ddim(lab.models.schedule, predictor, x, visited))]


def from_step(lab: Lab, case: Case, start: int) -> list[Tensor]:
    """The states from step `start` on, where p₋ starts, of the run that keeps it."""
    return run(lab, case.guided, case.states[start], case.visited[start:])


def until_step(lab: Lab, case: Case, pushed: list[Tensor], stop: int) -> Tensor:
    """The pictures where p₋ is gone from step `stop` on; pushed: states of a run that keeps it."""
    state = pushed[stop - 1 - len(case.visited)]  # the last is that of step S
    return run(lab, case.plain, state, case.visited[stop:])[-1]
