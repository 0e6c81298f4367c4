"""What does guidance buy, and what does it cost? Classifier-free by w, classifier by s."""

import argparse
from collections.abc import Iterable, Sequence

from guidance.sampling import Request, Sampler
from matplotlib.figure import Figure
from torch import Tensor

from train.experiments.plots import COLOURS, difference, grid, line, summary
from train.experiments.results import Row
from train.lab import Lab

WS = (0, 0.1, 0.25, 0.5, 1, 2, 4, 8)
STRENGTHS = (1, 2, 3, 5, 9)  # s on ε(∅); 1 + s on ε(c); 1 + w of classifier-free guidance
METHODS = {
    "classifier on ∅": "classifier, on ε(∅)",
    "classifier on c": "classifier, on ε(c)",
    "classifier-free": "classifier-free",
}
COLUMNS = {
    "class_accuracy": "class accuracy",
    "inception_score": "Inception score (judge)",
    "frechet": "Fréchet distance (judge)",
    "precision": "precision",
    "recall": "recall",
    "diversity": "within-class diversity",
    "cas": "classification accuracy score",
}
ADM_COLUMNS = {k: COLUMNS[k] for k in list(COLUMNS)[:5]}  # as in its Table 4


def price_of_w_jobs(args: argparse.Namespace) -> list[Row]:
    """Every w from the same noises, seed after seed."""
    return [{"w": w, "seed": seed} for seed in range(args.seeds) for w in WS]


def price_of_w(lab: Lab, job: Row, args: argparse.Namespace) -> list[Row]:
    """All metrics at one w."""
    c, seed = lab.balanced(args.n), int(job["seed"])
    x = _drawn(lab, Request("classifier-free", 0, w=float(job["w"])), c, seed, args)
    return [{**lab.measure(x, c, seed), **lab.cas(x, c, seed)}]


def classifier_jobs(args: argparse.Namespace) -> list[Row]:
    """ADM's s on ε(∅) and on ε(c), and w, at equal strength."""
    return [
        {"method": method, "strength": strength, "seed": seed}
        for seed in range(args.seeds)
        for strength in STRENGTHS
        for method in METHODS
    ]


def classifier(lab: Lab, job: Row, args: argparse.Namespace) -> list[Row]:
    """The metrics of one method at one strength: on exact predictors the three would agree."""
    c, seed, strength = lab.balanced(args.n), int(job["seed"]), float(job["strength"])
    request = {
        "classifier on ∅": Request("classifier", 0, scale=strength),
        "classifier on c": Request("classifier", 0, scale=strength - 1, conditional=True),
        "classifier-free": Request("classifier-free", 0, w=strength - 1),
    }[str(job["method"])]
    return [dict(lab.measure(_drawn(lab, request, c, seed, args), c, seed))]


def _drawn(lab: Lab, request: Request, c: Tensor, seed: int, args: argparse.Namespace) -> Tensor:
    if request.w == 0 and (request.kind == "classifier-free" or request.scale == 0):
        request = Request("none", 0)  # the same samples of ε(c), for half of the work
    return lab.draw(request, Sampler(steps=args.steps), c, seed)


def plot_price_of_w(rows: Sequence[Row]) -> Figure:
    """One panel a metric, over w."""
    figure, axes = grid(len(COLUMNS), 4)
    for ax, (column, name) in zip(axes, COLUMNS.items(), strict=False):
        places = range(len(WS))
        line(ax, places, [summary(rows, column, w=w) for w in WS], COLOURS[0], "samples")
        if f"{column}_real" in rows[0]:
            real = summary(rows, f"{column}_real").mean
            ax.axhline(real, color="0.4", linestyle="--", label="as many real images")
            ax.legend(fontsize=7)
        ax.set_xticks(places, [f"{w:g}" for w in WS])
        ax.set(xlabel="w", title=name, yscale="log" if column == "frechet" else "linear")
    return figure


def plot_classifier(rows: Sequence[Row]) -> Figure:
    """One panel a metric, over the strength; one line a method."""
    figure, axes = grid(len(ADM_COLUMNS), 3)
    for ax, (column, name) in zip(axes, ADM_COLUMNS.items(), strict=False):
        places = range(len(STRENGTHS))
        for (method, label), colour in zip(METHODS.items(), COLOURS, strict=False):
            values = [summary(rows, column, method=method, strength=s) for s in STRENGTHS]
            line(ax, places, values, colour, label)
        if f"{column}_real" in rows[0]:
            real = summary(rows, f"{column}_real").mean
            ax.axhline(real, color="0.4", linestyle="--", label="as many real images")
        ax.set_xticks(places, [f"{s:g}" for s in STRENGTHS])
        ax.set(xlabel="strength (s; 1 + s; 1 + w)", title=name)
        ax.set_yscale("log" if column == "frechet" else "linear")
    axes[0].legend(fontsize=7)
    return figure


def table_price_of_w(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each w: mean ± half the 95 % interval over seeds."""
    body = [
        [
            f"{w:g}",
            *(str(summary(rows, k, w=w)) for k in COLUMNS),
            str(difference(rows, "frechet", {"w": w}, {"w": 0})) if w else "",
        ]
        for w in WS
    ]
    real = _real([row for row in rows if row["w"] == 0], ["real images"], COLUMNS)
    return [["w", *COLUMNS.values(), "Fréchet, less that of w = 0"], *body, [*real, ""]]


def table_classifier(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each method and strength."""
    body = [
        [label, f"{s:g}", *(str(summary(rows, k, method=m, strength=s)) for k in ADM_COLUMNS)]
        for m, label in METHODS.items()
        for s in STRENGTHS
    ]
    return [
        ["method", "strength", *ADM_COLUMNS.values()],
        *body,
        _real(
            [r for r in rows if (r["method"], r["strength"]) == (next(iter(METHODS)), 1)],
            ["real images", ""],
            ADM_COLUMNS,
        ),
    ]


def _real(rows: Sequence[Row], head: list[str], columns: Iterable[str]) -> list[str]:
    names = [f"{k}_real" for k in columns]
    return [*head, *(str(summary(rows, k)) if k in rows[0] else "" for k in names)]
