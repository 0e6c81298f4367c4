"""Classifier guidance on ε(∅) and on ε(c), and classifier-free: what at equal strength?"""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from guidance.app.colours import CLASSIFIER, CLASSIFIER_ON_C, FREE
from guidance.app.guides import Guide, classifier, classifier_free, none
from train.evaluate.lab import Lab
from train.evaluate.metrics import NAMES
from train.evaluate.results import Row
from train.experiments.intervals import cells, summarise
from train.experiments.plots import grid, line, real_line
from train.experiments.price_of_w import real
from train.experiments.sweep import Experiment, conditional

METHODS = {
    "classifier on ∅": "classifier, on ε(∅)",
    "classifier on c": "classifier, on ε(c)",
    "classifier-free": "classifier-free",
}
COLOURS = dict(zip(METHODS, (CLASSIFIER, CLASSIFIER_ON_C, FREE), strict=True))
COLUMNS = {k: NAMES[k] for k in list(NAMES)[:5]}  # as in ADM's Table 4


def guides(flags: Any = None) -> dict[tuple[str, int], Guide]:
    """By method and strength: s on ε(∅), 1 + s on ε(c), 1 + w; exact predictors would agree."""
    found = {}
    for k in (1, 2, 3, 5, 9):
        found["classifier on ∅", k] = classifier(k)
        found["classifier on c", k] = classifier(k - 1, conditional=True) if k > 1 else none()
        found["classifier-free", k] = classifier_free(k - 1) if k > 1 else none()
    return found


def measure(lab: Lab, guide: Guide, seed: int, flags: Any) -> list[Row]:
    """The metrics of one method at one strength."""
    x, c = conditional(lab, guide, seed, flags)
    return [dict(lab.measure(x, c, seed))]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each method and strength."""
    lines = cells(summarise(rows, ["method", "strength"], COLUMNS)).reset_index()
    lines = pd.concat([lines[lines["method"] == method] for method in METHODS])
    lines["method"] = lines["method"].map(METHODS)
    lines["strength"] = lines["strength"].astype(str)
    return pd.concat([lines, real(rows, COLUMNS, "method")]).fillna("").rename(columns=COLUMNS)


def plot(rows: pd.DataFrame) -> Figure:
    """One panel a metric, over the strength; one line a method."""
    figure, axes = grid(len(COLUMNS), 3)
    strengths = sorted(rows["strength"].unique())
    places = range(len(strengths))
    for ax, (column, name) in zip(axes, COLUMNS.items(), strict=True):
        for method, label in METHODS.items():
            chosen = rows[rows["method"] == method]
            values = summarise(chosen, ["strength"], [column])[column].reindex(strengths)
            line(ax, values, COLOURS[method], label, places)
        real_line(ax, rows, column)
        ax.set_xticks(places, [f"{s:g}" for s in strengths])
        ax.set(xlabel="strength (s; 1 + s; 1 + w)", title=name)
        ax.set_yscale("log" if column == "frechet" else "linear")
    axes[0].legend(fontsize=7)
    return figure


EXPERIMENT = Experiment(
    ("method", "strength"), lambda flags, lab: guides(flags), measure, table, plot, classifier=True
)
