"""Where samplers without noise end: how far from the solution of their ODE, after S steps?"""

from functools import lru_cache, partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from ddpm import dpm_solver
from guidance.app.draw import Sampler
from guidance.app.guides import none
from train.evaluate import metrics
from train.evaluate.lab import Lab
from train.evaluate.results import Row
from train.experiments.intervals import cells, summarise
from train.experiments.plots import grid, line
from train.experiments.samplers import COLOURS, SAMPLERS
from train.experiments.sweep import Experiment, conditional
from train.judge import ask

SOLVERS: dict[str, Any] = {name: SAMPLERS[name] for name in ("DDIM, η = 0", "DPM-Solver++ (2M)")}
STEPS = (5, 10, 20, 50)


def solvers(flags: Any) -> dict[tuple[str, int], Sampler]:
    """Both samplers with every number of steps below --steps."""
    if flags.steps <= STEPS[0]:
        raise ValueError(f"--steps must be above {STEPS[0]}, got {flags.steps}")
    return {
        (name, S): partial(sampler, steps=S)
        for S in STEPS
        if flags.steps > S
        for name, sampler in SOLVERS.items()
    }


@lru_cache(maxsize=1)
def solution(lab: Lab, seed: int, n: int, steps: int) -> Tensor:
    """The judge's features (n, F) of conditional samples by DPM-Solver++ in that many steps."""
    x = lab.draw(none(), lab.labels(n), seed, partial(dpm_solver, steps=steps))
    return ask(lab.judge, x)[0]


def measure(lab: Lab, sampler: Sampler, seed: int, flags: Any) -> list[Row]:
    """Mean distances in the judge's features: to the solution from the same noise, and between two
    solutions of one class."""
    x, c = conditional(lab, none(), seed, flags, sampler)
    end = solution(lab, seed, flags.n, flags.steps)
    apart = (ask(lab.judge, x)[0] - end).norm(dim=1)
    return [{"distance": float(apart.mean()), "diversity": metrics.diversity(end, c)}]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The distances, a line for each sampler; below them that of two samples of a class."""
    lines = cells(summarise(rows, ["sampler", "S"], ["distance"]))["distance"].unstack("S")
    lines = lines.reindex([name for name in SOLVERS if name in lines.index])
    once = rows.drop_duplicates(["seed", "S"])  # each sampler's rows repeat it
    lines.loc["two solutions of a class"] = cells(summarise(once, ["S"], ["diversity"]))[
        "diversity"
    ]
    return lines.rename(columns=lambda S: f"S = {S}").reset_index()


def plot(rows: pd.DataFrame) -> Figure:
    """The distance over the number of steps."""
    figure, (ax,) = grid(1, 1, (4.6, 3.4))
    for name in SOLVERS:
        values = summarise(rows[rows["sampler"] == name], ["S"], ["distance"])["distance"]
        line(ax, values.sort_index(), COLOURS[name], name)
    ax.axhline(rows["diversity"].mean(), color="0.4", linestyle="--", label="two of a class")
    steps = sorted(rows["S"].unique())
    ax.set(xscale="log", yscale="log", xlabel="steps S", ylabel="distance from the solution")
    ax.set_xticks(steps, [str(S) for S in steps])
    ax.set_xticks([], minor=True)
    ax.legend(fontsize=7)
    return figure


EXPERIMENT = Experiment(
    ("sampler", "S"), lambda flags, lab: solvers(flags), measure, table, plot, null=False
)
