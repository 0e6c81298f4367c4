"""When does the negative class take effect? NegPrompt's claims on trained networks.

Every picture starts from the same noise as one without the negative class.
"""

import math
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from guidance.app.colours import ACCENT, MINUS, PLUS
from train.evaluate.lab import Lab
from train.evaluate.results import Row
from train.experiments.cases import QUESTIONS, from_step, make_case, sixth_to_half, until_step
from train.experiments.intervals import cells, holm, over_images, sign_test, wilson
from train.experiments.plots import grid, line
from train.experiments.sweep import Experiment
from train.scenes import at_rare_place

COUNTS = ("n", "negatives", "negatives_plain", "positives", "gained", "lost", "gained_rare",
          "nearer")  # fmt: skip
COLOURS = {"negatives": MINUS, "positives": PLUS, "distance": ACCENT}
STOPS = (1, 2, 3, 5, 8, 12, 20)
GROUPS = {  # which case each is about, and its title
    "start, p₊ a class": ("pair", "starts late; p₊ and p₋ two classes"),
    "start, p₋ present": ("present", "starts late; p₊ = ∅, picture of p₋"),
    "early, p₊ a class": ("pair", "early only; p₊ and p₋ two classes"),
    "early, p₊ = ∅": ("any", "early only; p₊ = ∅, p₋ any class"),
}
OF_SCENES = {  # p₊ is a digit, and p₋ may be true of it, too
    f"{which}, {question}": (question, f"{title}; {question}")
    for which, title in (
        ("start", "starts late"), ("early", "early only"), ("window", "a sixth to a half"),
    )
    for question in QUESTIONS
}  # fmt: skip


def groups(lab: Lab) -> dict[str, tuple[str, str]]:
    """The cases that can be asked of these networks, and their titles."""
    return GROUPS if lab.models.exclusive else OF_SCENES


def windows(which: str, S: int) -> dict[int, list[int]]:
    """The windows in which p₋ acts: start step -> stop steps, S being never."""
    if which == "window":  # NegPrompt's, beside the whole run
        start, stop = sixth_to_half(S)
        return {0: [S], start: [stop]}
    return {k: [S] for k in range(S + 1)} if which == "start" else {0: [k for k in STOPS if k <= S]}


def measure(lab: Lab, group: str, seed: int, flags: Any) -> list[Row]:
    """One row for each start step 0 … S, or for each stop step of an early window."""
    S, which = flags.steps, group.split(",")[0]
    case = make_case(lab, groups(lab)[group][0], flags.n, S, seed)
    plain, rows, distances = case.states[-1], list[Row](), list[Tensor]()
    before = lab.held_true(plain)  # (n, K)
    was = _says(before, case.negative)
    for start, stops in tqdm(windows(which, S).items(), unit="start", leave=False, disable=None):
        pushed = from_step(lab, case, start)
        for stop in stops:
            x = until_step(lab, case, pushed, stop)
            after = lab.held_true(x)
            now = _says(after, case.negative)
            same = (after == before).all(1)
            kept = torch.where(case.c < lab.K, _says(after, case.c % lab.K), same)
            distance = (x - plain).square().mean(dim=(1, 2, 3)).sqrt().cpu()  # (n,)
            distances.append(distance)
            row: Row = {
                "step": start if which != "early" else stop,
                "negatives": int(now.sum()),
                "negatives_plain": int(was.sum()),
                "gained": int((now & ~was).sum()),
                "lost": int((was & ~now).sum()),
                "positives": int(kept.sum()),
                "distance": float(distance.mean()),
                "distance_sd": float(distance.std()),
            }
            if not lab.models.exclusive:
                rare = now & ~was & at_rare_place(x).cpu()
                # than with p₋ in every step, which is the first of the windows
                nearer = int((distance < distances[0]).sum()) if which == "window" else math.nan
                row |= {"gained_rare": int(rare.sum()), "nearer": nearer}
            rows.append(row)
    return rows


def _says(true: Tensor, c: Tensor) -> Tensor:
    """Of (n, K) answers those to the labels c (n,)."""
    return true.gather(1, c[:, None])[:, 0]


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """By group and step: shares of the images of all seeds, the mean distance, pooled counts."""
    groups = rows.groupby(["group", "step"], sort=False)
    total = groups[[column for column in COUNTS if column in rows]].sum()
    shares = ("negatives", "negatives_plain", "positives")
    found = {column: wilson(total[column], total["n"]) for column in shares}
    return pd.concat({**found, "distance": over_images(groups, "distance"), "sum": total}, axis=1)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every fifth start step and every stop step; for early windows, a test that p₋ is gained.

    nearer: to the plain picture than with p₋ in every step. The p-values are of one window each;
    Holm's hold for all windows of the group together.
    """
    summary = over_seeds(rows)
    columns = {
        "negatives": "judged p₋",
        "positives": "judged p₊ (if ∅: as without p₋)",
        "distance": "distance",
    }
    lines = cells(summary[list(columns)]).rename(columns=columns).reset_index()
    changes = summary["sum"][["gained", "lost"]].astype(int).to_numpy().tolist()
    lines["gained : lost p₋"] = [f"{gained} : {lost}" for gained, lost in changes]
    stops = lines["group"].str.startswith("early")
    p_values = pd.Series([sign_test(*pair) for pair in changes])[stops]
    corrected = p_values.groupby(lines["group"]).transform(holm)
    for column, values in {"p-value": p_values, "Holm's": corrected}.items():
        lines[column] = values.map("{:.2g}".format).astype(object).reindex(lines.index).fillna("")
    for column, text in {"gained_rare": "gained at the rare place", "nearer": "nearer"}.items():
        if column in rows:
            known = rows.groupby(["group", "step"], sort=False)[column].count().to_numpy() > 0
            counts = summary["sum", column].to_numpy()
            lines[text] = [f"{v:.0f}" if k else "" for v, k in zip(counts, known, strict=True)]
    windows = lines["group"].str.startswith("window")
    return lines[stops | windows | (lines["step"] % 5 == 0)].astype(str)


def plot(rows: pd.DataFrame) -> Figure:
    """Rates and distance over the start step; rates over the stop step of early windows."""
    summary = over_seeds(rows)
    found = set(summary.index.unique(0))
    shown = GROUPS if found & GROUPS.keys() else OF_SCENES
    panels = {k: v for k, v in shown.items() if k.split(",")[0] != "window"}
    figure, axes = grid(len(panels), len(panels) // 2, (4.4, 3.1))
    low = 0.2 if shown is GROUPS else 0.5  # of the legend, where no curve is
    for ax, (group, (kind, title)) in zip(axes, panels.items(), strict=True):
        if group not in found:
            continue
        values = summary.loc[group]
        curves = {"negatives": "judged as p₋", "positives": "judged as p₊"}
        if kind == "present":  # there p₊ is p₋
            del curves["positives"]
        elif kind == "any":
            curves["positives"] = "class of the plain picture"
        curves["distance"] = "RMS distance to the plain picture"
        for column, label in curves.items():
            line(ax, values[column], COLOURS[column], label)
        ax.axhline(values["negatives_plain", "mean"].iloc[0], color="0.4", linestyle=":",
                   label="judged as p₋ without it")  # fmt: skip
        which = "start" if group.startswith("start") else "stop"
        if which == "stop":
            ax.set_xticks(list(values.index))
        ax.set(title=title, xlabel=f"{which} step of the negative class",
               ylim=(-0.03, 1.03))  # fmt: skip
        ax.legend(fontsize=6.5, loc="center right" if ax is axes[0] else (0.02, low))
    return figure


# What comes out of nothing is rare: there it is counted in more pictures
SEEDS = dict.fromkeys(["early, p₊ = ∅", *(g for g in OF_SCENES if g.startswith("early"))], 3)

EXPERIMENT = Experiment(
    ("group",), lambda flags, lab: {group: group for group in groups(lab)}, measure, table, plot,
    concepts=True, rare=SEEDS,
)  # fmt: skip
