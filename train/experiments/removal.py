"""Remove a class from unconditional sampling: DNG's protocol, one class after the other."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ddpm import ddim
from guidance.app.colours import LATE, NEGATIVE, NONE, POSTERIOR
from guidance.app.draw import window
from guidance.app.guides import Guide, negative, none, posterior_negative
from train.evaluate import metrics
from train.evaluate.lab import Lab
from train.evaluate.results import Row
from train.experiments.intervals import cells, student, wilson
from train.experiments.plots import grid
from train.experiments.sweep import Experiment
from train.judge import ask

Removal = Callable[[int, int], Guide]
"""removal(c₋, start) -> guide; start is the t after 40 % of the steps."""
METHODS: dict[str, tuple[Callable[[float], Removal], tuple[float, ...]]] = {  # with each one's λ
    "constant λ": (lambda v: lambda k, t: negative(k, v), (0.25, 0.5, 1, 2)),
    "constant λ, late": (lambda v: lambda k, t: negative(k, v, start=t), (0.5, 1, 2, 4)),
    "λ_0·p/(1 − p)": (lambda v: lambda k, t: posterior_negative(k, v), (0.5, 1, 2, 4)),
}
COLOURS = dict(zip(METHODS, (NEGATIVE, LATE, POSTERIOR), strict=True))
MEASURES = {
    "share": "share of the removed class (%)",
    "kl": "KL to uniform over the kept (nats)",
    "frechet": "Fréchet distance to real images without the class",
}


def removals(flags: Any) -> dict[tuple[str, float], Removal | None]:
    """No guidance at all, then each method over its λ. ValueError for n = 1: it has no distance."""
    if flags.n < 2:
        raise ValueError(f"--n must be at least 2, got {flags.n}")
    every = {(name, v): method(v) for name, (method, values) in METHODS.items() for v in values}
    return {("none", 0): None, **every}


def measure(lab: Lab, removal: Removal | None, seed: int, flags: Any) -> list[Row]:
    """n samples with each class removed: one row a class."""
    most = len(lab.data.test_labels) - int(torch.bincount(lab.data.test_labels).max())
    if flags.n > most:
        raise ValueError(f"--n must be at most {most}, the real test images without a class")
    late, _ = window(lab.models.schedule.T, flags.steps, round(0.4 * flags.steps))
    null, rows = torch.full((flags.n,), lab.K), []
    draw = partial(lab.draw, c=null, seed=seed, sampler=partial(ddim, steps=flags.steps))
    plain = draw(none()) if removal is None else None
    for removed, name in enumerate(lab.models.classes):
        x = draw(removal(removed, late), text=f"without {name}") if removal else plain
        assert x is not None
        rows.append(one_class(lab, x, removed, seed))
    return rows


def one_class(lab: Lab, x: Tensor, removed: int, seed: int) -> Row:
    """Samples x beside real images without the class, and as many of those that are held out."""
    features, logits = ask(lab.judge, x)
    real = lab.train_features[lab.data.labels != removed]
    held_out = lab.test_features[lab.data.test_labels != removed]
    generator = torch.Generator().manual_seed(seed)
    as_many = held_out[torch.randperm(len(held_out), generator=generator)[: len(x)]]
    classes = logits.argmax(1)
    return {
        "removed": removed,
        "share": 100 * float((classes == removed).double().mean()),
        "kl": metrics.kl_to_uniform(classes, removed, lab.K),
        "kl_real": metrics.kl_to_uniform(lab.judged(as_many), removed, lab.K),
        "frechet": metrics.frechet_distance(real, features),
        "frechet_real": metrics.frechet_distance(real, as_many),
    }


def over_classes(rows: pd.DataFrame) -> pd.DataFrame:
    """By method and λ: the share of all images (Wilson); of the rest the mean over the classes.

    Each class is one value, its mean over seeds, to Student's interval: over which class is
    removed, not over the noise, since all classes start from the same x_T.
    """
    by = ["method", "lambda"]
    images = pd.DataFrame({"count": (rows["share"] / 100 * rows["n"]).round(), "n": rows["n"]})
    pooled = images.groupby([rows[k] for k in by], sort=False).sum()
    found = {"share": 100 * wilson(pooled["count"], pooled["n"])}
    columns = ["kl", "frechet", "kl_real", "frechet_real"]
    classes = rows.groupby([*by, "removed"], sort=False)[columns].mean().groupby(by, sort=False)
    return pd.concat(found | {column: student(classes[column]) for column in columns}, axis=1)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each method and λ."""
    lines = cells(over_classes(rows)).reset_index()
    # Of samples without guidance the shares of all classes are the whole: nothing to average
    lines.loc[lines["method"] == "none", "share"] = f"{100 / rows['removed'].nunique():.3g}"
    real = {"method": "real images", **lines.iloc[0][["kl_real", "frechet_real"]]}
    lines["λ"] = [f"{value:g}" for value in lines["lambda"]]
    last = pd.DataFrame([real]).rename(columns=lambda name: name.removesuffix("_real"))
    columns = ["method", "λ", *MEASURES]
    return pd.concat([lines, last])[columns].fillna("").rename(columns=MEASURES)


def plot(rows: pd.DataFrame) -> Figure:
    """Share of the removed class against distance and against balance; one curve a method."""
    figure, axes = grid(2, 2, (4.4, 3.4))
    summary = over_classes(rows).sort_index()
    for ax, column in zip(axes, ("frechet", "kl"), strict=True):
        for method, colour in COLOURS.items():
            if method not in summary.index:
                continue
            x, y = summary.loc[method, "share"], summary.loc[method, column]
            ends = [abs(v[["low", "high"]].to_numpy() - v[["mean"]].to_numpy()).T for v in (y, x)]
            ax.errorbar(x["mean"], y["mean"], *ends, color=colour, label=method, marker="o",
                        markersize=3, elinewidth=0.6)  # fmt: skip
            for v, *at in zip(x.index, x["mean"], y["mean"], strict=True):
                ax.annotate(f"{v:g}", at, (3, 3), textcoords="offset points", fontsize=6)
        if ("none", 0) in summary.index:
            none = summary.loc[("none", 0)]
            ax.plot(none["share", "mean"], none[column, "mean"], "*", color=NONE,
                    label="no guidance")  # fmt: skip
            ax.axhline(none[f"{column}_real", "mean"], color="0.4", linestyle="--",
                       label="as many real images")  # fmt: skip
        ax.set(xlabel=MEASURES["share"], title=MEASURES[column])
        ax.set_xscale("symlog", linthresh=0.5)
        ax.set_xlim(-0.1, 140 / rows["removed"].nunique())
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=7)
    return figure


EXPERIMENT = Experiment(
    ("method", "lambda"), lambda flags, lab: removals(flags), measure, table, plot, classifier=True
)
