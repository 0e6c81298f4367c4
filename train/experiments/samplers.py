"""How many steps does a sampler need? DDIM, DPM-Solver++, ancestral."""

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ddpm import ancestral, ddim, dpm_solver
from guidance.app.colours import CLASS
from guidance.app.draw import Sampler
from guidance.app.guides import none
from train.evaluate.lab import Lab
from train.evaluate.metrics import NAMES
from train.evaluate.results import Row
from train.experiments.intervals import cells, summarise
from train.experiments.plots import grid, line, real_line
from train.experiments.sweep import Experiment, conditional

SAMPLERS: dict[str, Any] = {
    "DDIM, η = 0": partial(ddim, eta=0.0),
    "DDIM, η = 0.5": partial(ddim, eta=0.5),
    "DDIM, η = 1": partial(ddim, eta=1.0),
    "DPM-Solver++ (2M)": dpm_solver,
    "ancestral, β̃_t": partial(ancestral, variance="posterior"),
    "ancestral, β_t": partial(ancestral, variance="beta"),
}
COLOURS = dict(zip(SAMPLERS, CLASS, strict=False))
STEPS = (10, 20, 50, 100, 1000)


def samplers(flags: Any) -> dict[tuple[str, int], Sampler]:
    """Every sampler with every number of steps up to --steps, the short ones first."""
    if flags.steps < STEPS[0]:
        raise ValueError(f"--steps must be at least {STEPS[0]}, got {flags.steps}")
    return {
        (name, S): partial(sampler, steps=S)
        for S in STEPS
        if flags.steps >= S
        for name, sampler in SAMPLERS.items()
    }


def measure(lab: Lab, sampler: Sampler, seed: int, flags: Any) -> list[Row]:
    """Conditional samples, w = 0."""
    x, c = conditional(lab, none(), seed, flags, sampler)
    return [dict(lab.measure(x, c, seed))]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Fréchet distances, a line for each sampler."""
    lines = cells(summarise(rows, ["sampler", "S"], ["frechet"]))["frechet"].unstack("S")
    lines = lines.reindex([name for name in SAMPLERS if name in lines.index])
    once = rows.drop_duplicates(["seed", "S"])  # each sampler's rows repeat what real images get
    lines.loc["real images"] = cells(summarise(once, ["S"], ["frechet_real"]))["frechet_real"]
    return lines.fillna("–").rename(columns=lambda S: f"S = {S}").reset_index()


def plot(rows: pd.DataFrame) -> Figure:
    """Fréchet distance and class accuracy over the number of steps."""
    figure, axes = grid(2, 2, (4.2, 3.2))
    steps = sorted(rows["S"].unique())
    colours = {k: v for k, v in COLOURS.items() if k in set(rows["sampler"])}
    for ax, column in zip(axes, ("frechet", "class_accuracy"), strict=True):
        for name, colour in colours.items():
            values = summarise(rows[rows["sampler"] == name], ["S"], [column])[column]
            line(ax, values.sort_index(), colour, name)
        ax.set_xscale("log")
        ax.set_xticks(steps, [str(S) for S in steps], minor=False)
        ax.set(xlabel="steps S", title=NAMES[column])
    real_line(axes[0], rows, "frechet")
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=7)
    return figure


EXPERIMENT = Experiment(
    ("sampler", "S"), lambda flags, lab: samplers(flags), measure, table, plot, null=False
)
