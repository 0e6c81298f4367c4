"""NegPrompt's claims where ε* is exact: for each a world in which it holds, and one in which not.

No network: Gaussians of one or two dimensions, in float64, from noise that all runs of a seed
share. A claim that fails here fails without any mistake of training; one that holds needs none.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddpm import timesteps
from train.evaluate.results import Row
from train.experiments.exact import (
    LARGER,
    ONE_MODE,
    SAME_SIDE,
    SCHEDULE,
    SMALLER,
    TWO_MODES,
    W,
    World,
    ends,
    has,
    noise,
    on_a_line,
    predictions,
    square,
    states,
)
from train.experiments.sweep import Experiment
from train.experiments.worlds_plot import plot
from train.experiments.worlds_table import table

SEPARATIONS = (0.4, 0.8, 1.6, 3.2, 6.4)
PLUS, MINUS = 0.5, 0.3  # P(p₊) and P(p₋) where their overlap is varied
OVERLAPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # P(p₋|p₊): exclusive … chance (0.3) … contained
STOPS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 30, 50)
SCALES = (1.0, 2.0, 4.0, W)


def row(name: str, at: float, value: Tensor, *, gained: int = 0, lost: int = 0) -> Row:
    """The mean of a value of each picture, (n,): a share, if it holds bools. Of none it is NaN."""
    of, v = len(value), value.double()
    sd = float(v.std()) if of > 1 else math.nan
    return {"name": name, "at": at, "value": float(v.mean()), "value_sd": sd, "of": of,
            "gained": gained, "lost": lost}  # fmt: skip


def left(world: World, x_T: Tensor, steps: Sequence[int], S: int) -> Tensor:
    """Whether the pictures of x_T have p₋ if it is taken away from these steps on: (m, n)."""
    return has(world, ends(world, x_T, S, W, steps, [S] * len(steps)), world.negative)


def delay(world: World, seed: int, flags: Any) -> list[Row]:
    """Pulls along the plain run of the pictures that get p₋, and what late starts leave of it."""
    S, x_T = flags.steps, noise(world, flags.n, seed)
    plain = states(world, x_T, S, start=S)
    had = has(world, plain[-1], world.negative)
    rows: list[Row] = []
    pulls: list[Tensor] = []
    for k, t in enumerate(timesteps(SCHEDULE.T, S) if had.any() else []):
        plus, minus, null = predictions(world, plain[k][had], t)
        pulls.append(torch.stack([(plus - null).norm(dim=1), (minus - null).norm(dim=1)]))
        rows += [row(f"pull of p{s}", k, v) for s, v in zip("₊₋", pulls[-1], strict=True)]
    peaks = torch.stack(pulls).argmax(0) if pulls else torch.zeros(2, 0)  # a step for each picture
    rows.append(row("p₋ peaks after p₊", 0, peaks[1] - peaks[0]))
    steps = range(0, S + 1, 2)
    shares = left(world, x_T[had], steps, S)
    return rows + [row("left", k, share) for k, share in zip(steps, shares, strict=True)]


def separations(seed: int, flags: Any) -> list[Row]:
    """The log-SNR from which on a start leaves a tenth, and a half, of p₋, over its separation."""
    S, rows = flags.steps, list[Row]()
    alpha_bar = SCHEDULE.alpha_bar[timesteps(SCHEDULE.T, S)]
    log_snr = (alpha_bar / (1 - alpha_bar)).log()
    for separation in SEPARATIONS:
        world = on_a_line((0, separation), (0.8, 0.2), (0, 1), variance=0.01)
        x_T = noise(world, flags.n, seed)
        had = has(world, states(world, x_T, S, start=S)[-1], 0)
        share = left(world, x_T[had], range(S), S).double().mean(1)
        for name, level in (("a tenth left", 0.1), ("a half left", 0.5)):
            rows.append(row(name, separation, crossing(log_snr, share, level)[None]))
    return rows


def crossing(x: Tensor, y: Tensor, level: float) -> Tensor:
    """The first x at which the line through the points rises to the level; NaN if none does."""
    for (a, u), (b, v) in itertools.pairwise(zip(x, y, strict=True)):
        if u < level <= v:
            found: Tensor = a + (b - a) * (level - u) / (v - u)
            return found
    return torch.tensor(math.nan)


def overlaps(seed: int, flags: Any) -> list[Row]:
    """The mean cosine of the two pulls along each picture's plain run, and what becomes of both."""
    S, rows = flags.steps, list[Row]()
    for overlap in OVERLAPS:
        world = World(square(PLUS, MINUS, PLUS * overlap, (2.0, 2.0), 0.05), 0, 1)
        x_T = noise(world, flags.n, seed)
        plain, x = states(world, x_T, S, start=S), states(world, x_T, S)[-1]
        cosines = []
        for k in range(0, S, 2):
            plus, minus, null = predictions(world, plain[k], timesteps(SCHEDULE.T, S)[k])
            a, b = plus - null, minus - null
            # Where p₊ or p₋ is certain the difference is rounding, and has no direction
            clear = torch.minimum(a.norm(dim=1), b.norm(dim=1)) > 1e-6
            cosines.append(torch.where(clear, torch.cosine_similarity(a, b), torch.nan))
        rows += [row("cosine", overlap, torch.stack(cosines).nanmean(0)),
                 row("p₋ without it", overlap, has(world, plain[-1], 1)),
                 row("p₋ left", overlap, has(world, x, 1)),
                 row("p₊ kept", overlap, has(world, x, 0))]  # fmt: skip
    return rows


def windows(world: World, seed: int, flags: Any, scales: tuple[float, ...]) -> list[Row]:
    """p₋ in the first steps alone: who gains it and who loses it; D^(t) where it stays on."""
    S, x_T = flags.steps, noise(world, flags.n, seed)
    plain = states(world, x_T, S, start=S)
    was, stops = has(world, plain[-1], 0), [k for k in STOPS if k <= S]
    rows = [row("p₋", 0, was), row("rare look", 0, has(world, plain[-1], 1))]
    for w in scales:
        x = ends(world, x_T, S, w, [0] * len(stops), stops)
        now, rare = has(world, x, 0), has(world, x, 1)
        for i, k in enumerate(stops):
            gained, lost = int((now[i] & ~was).sum()), int((was & ~now[i]).sum())
            rows += [row(f"p₋, w = {w:g}", k, now[i], gained=gained, lost=lost),
                     row(f"rare look, w = {w:g}", k, rare[i])]  # fmt: skip
    pushed = states(world, x_T, S, scales[-1])
    for k, t in enumerate(timesteps(SCHEDULE.T, S)):
        along = []  # ‖proj of ε₊ on ε₋‖, with p₋ and without it
        for x_t in (pushed[k], plain[k]):
            plus, minus, _ = predictions(world, x_t, t)
            along.append((plus * minus).sum(1).abs() / minus.norm(dim=1))
        rows.append(row("D^(t)", k, along[0] - along[1]))
    return rows


Measure = Callable[[int, Any], list[Row]]
GROUPS: dict[str, Measure] = {
    "p₋ the smaller": partial(delay, SMALLER),
    "p₋ the larger": partial(delay, LARGER),
    "separations": separations,
    "overlaps": overlaps,
    "two modes": partial(windows, TWO_MODES, scales=SCALES),
    "two modes, same side": partial(windows, SAME_SIDE, scales=(W,)),
    "one mode": partial(windows, ONE_MODE, scales=(W,)),
}


def measure(_: Any, group: Measure, seed: int, flags: Any) -> list[Row]:
    """The rows of one group of worlds."""
    return group(seed, flags)


EXPERIMENT = Experiment(("group",), lambda flags, lab: GROUPS, measure, table, plot, exact=True)
