"""What does classifier-free guidance buy, and what does it cost? All metrics over w."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from guidance.app.colours import FREE
from guidance.app.guides import Guide, classifier_free, none
from train.evaluate import cas
from train.evaluate.lab import Lab
from train.evaluate.metrics import NAMES
from train.evaluate.results import Row
from train.experiments.intervals import cells, summarise
from train.experiments.plots import grid, line, real_line
from train.experiments.sweep import Experiment, conditional

# w = 0 is ε(c): the same samples for half of the work
GUIDES = {w: classifier_free(w) if w else none() for w in (0, 0.1, 0.25, 0.5, 1, 2, 4, 8)}
COLUMNS = {key: name for key, name in NAMES.items() if key != "fid"}


def measure(lab: Lab, guide: Guide, seed: int, flags: Any) -> list[Row]:
    """All metrics at one w; every w starts from the same noise."""
    x, c = conditional(lab, guide, seed, flags)
    return [{**lab.measure(x, c, seed), **cas.scores(lab, x, c, seed)}]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each w, with the distance's difference from w = 0, seed by seed: same noise."""
    at_zero = rows[rows["w"] == 0].set_index("seed")["frechet"]
    rows = rows.assign(less=rows["frechet"] - rows["seed"].map(at_zero))
    lines = cells(summarise(rows, ["w"], [*COLUMNS, "less"]))
    lines.loc[lines.index == 0, "less"] = ""
    lines.insert(0, "w", [f"{w:g}" for w in lines.index])
    names = {**COLUMNS, "less": "Fréchet, less that of w = 0"}
    return pd.concat([lines, real(rows, COLUMNS)]).fillna("").rename(columns=names)


def real(rows: pd.DataFrame, columns: Any, head: str = "w") -> pd.DataFrame:
    """The line of the real images: those of each seed are in all of its rows."""
    names = {f"{k}_real": k for k in columns if f"{k}_real" in rows}
    lines = cells(summarise(rows.drop_duplicates("seed"), ["data"], names))
    return lines.rename(columns=names).assign(**{head: "real images"})


def plot(rows: pd.DataFrame) -> Figure:
    """One panel a metric, over w."""
    figure, axes = grid(len(COLUMNS), 4)
    summary = summarise(rows, ["w"], COLUMNS)
    places = range(len(summary))
    for ax, (column, name) in zip(axes, COLUMNS.items(), strict=True):
        line(ax, summary[column], FREE, "samples", places)
        if real_line(ax, rows, column):
            ax.legend(fontsize=7)
        ax.set_xticks(places, [f"{w:g}" for w in summary.index])
        ax.set(xlabel="w", title=name, yscale="log" if column == "frechet" else "linear")
    return figure


EXPERIMENT = Experiment(("w",), lambda flags, lab: GUIDES, measure, table, plot)
