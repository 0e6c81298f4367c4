"""What the network has learned of concepts that overlap: is each as likely as in the data?"""

from functools import partial
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from ddpm import ddim
from guidance.app.colours import CLASS
from guidance.app.guides import Guide, classifier_free, none
from train.evaluate.lab import Lab
from train.evaluate.results import Row
from train.experiments.intervals import cells, wilson
from train.experiments.plots import grid
from train.experiments.sweep import Experiment

GUIDES: dict[float, Guide] = {0: none(), 2: classifier_free(2.0)}  # by w


def guides(lab: Lab) -> dict[float, Guide]:
    """ValueError if labels are classes: of those one is true, and that is `class_accuracy`."""
    if lab.models.exclusive:
        raise ValueError("--weights must know concepts, of which several can be true of a picture")
    return GUIDES


def measure(lab: Lab, guide: Guide, seed: int, flags: Any) -> list[Row]:
    """A row for each label p₊: of its n samples, how many the judge holds each concept true of.

    Beside them the share among real training images of p₊, and the judge's own accuracy.
    """
    true, names = lab.data.labels.cpu(), lab.models.classes
    answers = lab.held_true(lab.data.scale(lab.data.test_images))
    right = (answers == lab.data.test_labels.cpu()).double().mean(0)  # (K,)
    rows: list[Row] = []
    for given, name in enumerate(names):
        c = torch.full((flags.n,), given)
        x = lab.draw(guide, c, seed, partial(ddim, steps=flags.steps), name)
        counts, real = lab.held_true(x).sum(0), true[true[:, given]].double().mean(0)  # (K,), (K,)
        rows += [
            {
                "given": name,
                "concept": concept,
                "count": int(counts[k]),
                "real": float(real[k]),
                "judge": float(right[k]),
            }
            for k, concept in enumerate(names)
        ]
    return rows


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """By w, p₊ and concept: share of the images of all seeds; the data's; the judge's accuracy."""
    groups = rows.groupby(["w", "given", "concept"], sort=False)
    total = groups[["count", "n"]].sum()
    share = wilson(total["count"], total["n"])
    return pd.concat({"share": share, "data": groups[["real", "judge"]].first()}, axis=1)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each w and p₊: its own share, and those of each concept that is no digit."""
    summary, others = shares(rows), [k for k in rows["concept"].unique() if not k.isdigit()]
    texts, found = cells(summary[["share"]])["share"], []
    for w, given in summary.index.droplevel("concept").unique():
        line = {"w": f"{w:g}", "p₊": given, "judged p₊": texts[w, given, given]}
        for concept in (k for k in others if k != given):
            real = summary.loc[(w, given, concept), ("data", "real")]
            line[concept] = f"{texts[w, given, concept]}; data {real:.3f}"
        found.append(line)
    right = rows.groupby("concept")["judge"].first()  # of real test images
    digits = right[[k for k in right.index if k not in others]]
    last = {"p₊": "the judge is right", "judged p₊": f"{digits.min():.4f}–{digits.max():.4f}"}
    found.append(last | {concept: f"{right[concept]:.4f}" for concept in others})
    return pd.DataFrame(found).fillna("")


def plot(rows: pd.DataFrame) -> Figure:
    """Each concept's share given a digit against the data's."""
    summary = shares(rows)
    ws, given = summary.index.unique("w"), summary.index.unique("given")
    digits = [g for g in given if g.isdigit()]
    figure, axes = grid(len(ws), 2, (3.8, 3.5))
    for ax, w in zip(axes, ws, strict=True):
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.8)
        for concept, colour in zip((k for k in given if k not in digits), CLASS, strict=False):
            part = summary.loc[[(w, g, concept) for g in digits]]
            real, mean = part["data", "real"], part["share", "mean"]
            ends = [abs(mean - part["share", end]) for end in ("low", "high")]
            ax.errorbar(real, mean, ends, fmt="o", markersize=3, color=colour, label=concept)
            for g, *at in zip(digits, real, mean, strict=True):
                ax.annotate(g, at, (4, -2), textcoords="offset points", fontsize=6)
        ax.set(xlabel="share in the data, given the digit", ylabel="share of the samples",
               title=f"w = {w:g}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))  # fmt: skip
        ax.legend(fontsize=7)
    return figure


EXPERIMENT = Experiment(("w",), lambda flags, lab: guides(lab), measure, table, plot, concepts=True)
