"""How many steps does a sampler need? Ancestral with β_t and β̃_t, DDIM with η = 0, ½, 1."""

import argparse
from collections.abc import Sequence

from guidance.sampling import Request, Sampler
from matplotlib.figure import Figure

from train.experiments.plots import COLOURS, grid, line, summary
from train.experiments.results import Row
from train.lab import Lab

SAMPLERS = {
    "DDIM, η = 0": Sampler("ddim", eta=0.0),
    "DDIM, η = 0.5": Sampler("ddim", eta=0.5),
    "DDIM, η = 1": Sampler("ddim", eta=1.0),
    "ancestral, β̃_t": Sampler("ancestral", variance="posterior"),
    "ancestral, β_t": Sampler("ancestral", variance="beta"),
}
STEPS = (10, 20, 50, 100, 1000)


def jobs(args: argparse.Namespace) -> list[Row]:
    """Every sampler and number of steps up to --steps, the short ones first."""
    if args.steps < STEPS[0]:
        raise ValueError(f"--steps must be at least {STEPS[0]}, got {args.steps}")
    return [
        {"sampler": name, "S": S, "seed": seed}
        for S in STEPS
        if args.steps >= S
        for seed in range(args.seeds)
        for name in reversed(SAMPLERS)
    ]


def measure(lab: Lab, job: Row, args: argparse.Namespace) -> list[Row]:
    """Conditional samples, w = 0."""
    seed = int(job["seed"])
    sampler = SAMPLERS[str(job["sampler"])]._replace(steps=int(job["S"]))
    c = lab.balanced(args.n)
    return [dict(lab.measure(lab.draw(Request("none", 0), sampler, c, seed), c, seed))]


def plot(rows: Sequence[Row]) -> Figure:
    """Fréchet distance and class accuracy over the number of steps."""
    figure, axes = grid(2, 2, (4.2, 3.2))
    steps = [S for S in STEPS if any(row["S"] == S for row in rows)]
    for ax, column in zip(axes, ("frechet", "class_accuracy"), strict=True):
        for name, colour in zip(SAMPLERS, COLOURS, strict=False):
            values = [summary(rows, column, sampler=name, S=S) for S in steps]
            line(ax, steps, values, colour, name)
        ax.set_xscale("log")
        ax.set_xticks(steps, [str(S) for S in steps], minor=False)
        ax.set_xlabel("steps S")
    real = summary(rows, "frechet_real").mean
    axes[0].axhline(real, color="0.4", linestyle="--", label="as many real images")
    axes[0].set(title="Fréchet distance (judge)", yscale="log")
    axes[1].set(title="class accuracy")
    axes[0].legend(fontsize=7)
    return figure


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Fréchet distances, a line for each sampler."""
    steps = [S for S in STEPS if any(row["S"] == S for row in rows)]
    body = [
        [name, *(str(summary(rows, "frechet", sampler=name, S=S)) for S in steps)]
        for name in SAMPLERS
    ]
    first = next(iter(SAMPLERS))  # every sampler's rows repeat what real images get
    real = [str(summary(rows, "frechet_real", sampler=first, S=S)) for S in steps]
    return [["sampler", *(f"S = {S}" for S in steps)], *body, ["real images", *real]]
