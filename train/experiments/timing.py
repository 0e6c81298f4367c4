"""When does the negative class take effect? NegPrompt's claims on a class-conditional model.

Every picture starts from the same noise as one without the negative class, and DDIM with η = 0
adds none. So the run whose negative class starts at step k is the plain run up to its state k, and
goes on from there; the run that loses it at step k is the negative run up to its state k.
"""

from typing import Any, NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from ddpm import Predictor, ddim, timesteps
from guidance.app.guides import classifier_free, negative, none
from train.evaluate.judge import ask
from train.evaluate.lab import Lab
from train.evaluate.results import Row
from train.experiments.intervals import cells, holm, over_images, sign_test, wilson
from train.experiments.plots import COLOURS, grid, line
from train.experiments.sweep import Experiment

W = 2.0  # of both guidances; with p₊ = ∅ it is DNG's λ
STOPS = (1, 2, 3, 5, 8, 12, 20)
GROUPS = {  # which case each is about, and its title
    "start, p₊ a class": ("pair", "starts late; p₊ and p₋ two classes"),
    "start, p₋ present": ("present", "starts late; p₊ = ∅, picture of p₋"),
    "early, p₊ a class": ("pair", "early only; p₊ and p₋ two classes"),
    "early, p₊ = ∅": ("any", "early only; p₊ = ∅, p₋ any class"),
}


class Case(NamedTuple):
    """n runs from x_T: their classes, the two predictors, and the plain run's states."""

    c: Tensor  # p₊, (n,), ∅ = K
    negative: Tensor  # p₋, (n,)
    plain: Predictor
    guided: Predictor  # with the negative class
    states: list[Tensor]  # S+1 of (n, C, H, W): x_T first, the picture last
    visited: list[int]  # S values of t


def make_case(lab: Lab, kind: str, n: int, S: int, seed: int) -> Case:
    """kind: "pair" is every (p₊, p₋) in turn; "any" and "present" have p₊ = ∅.

    ValueError unless n is a multiple of the number of pairs, so that each comes as often.
    """
    K = lab.K
    if n % (K * (K - 1)):
        raise ValueError(f"--n must be a multiple of the {K * (K - 1)} pairs of classes, got {n}")
    x_T = lab.models.noise(n, torch.Generator().manual_seed(seed))
    i, visited = torch.arange(n), timesteps(lab.models.schedule.T, S)
    pair = kind == "pair"
    c = i % K if pair else torch.full((n,), K)
    avoided = (c + 1 + i // K % (K - 1)) % K if pair else i % K
    labels = c.to(lab.device)
    plain = (classifier_free(W) if pair else none())(lab.models, labels)
    states = run(lab, plain, x_T, visited)
    if kind == "present":
        avoided = ask(lab.judge, states[-1])[1].argmax(1)
    return Case(c, avoided, plain, negative(avoided, W)(lab.models, labels), states, visited)


def run(lab: Lab, predictor: Predictor, x: Tensor, visited: list[int]) -> list[Tensor]:
    """x and every state after it, as DDIM visits these t; x alone if there is none."""
    if not visited:
        return [x]
    with torch.autocast(lab.device.type, lab.dtype, enabled=lab.dtype is not None):
        return [x, *(step.x for step in ddim(lab.models.schedule, predictor, x, visited))]


def late(lab: Lab, case: Case, k: int) -> Tensor:
    """The pictures where p₋ starts at step k."""
    return run(lab, case.guided, case.states[k], case.visited[k:])[-1]


def early(lab: Lab, case: Case, pushed: list[Tensor], k: int) -> Tensor:
    """The pictures where p₋ is gone from step k on; pushed: the states of the run that keeps it."""
    return run(lab, case.plain, pushed[k], case.visited[k:])[-1]


def measure(lab: Lab, group: str, seed: int, flags: Any) -> list[Row]:
    """One row for each start step 0 … S, or for each stop step of an early window."""
    S = flags.steps
    case = make_case(lab, GROUPS[group][0], flags.n, S, seed)
    before = ask(lab.judge, case.states[-1])[1].argmax(1)
    starts = group.startswith("start")
    pushed = [] if starts else run(lab, case.guided, case.states[0], case.visited)
    steps = range(S + 1) if starts else [k for k in STOPS if k <= S]
    rows: list[Row] = []
    for k in tqdm(steps, unit="step", leave=False, disable=None):
        x = late(lab, case, k) if starts else early(lab, case, pushed, k)
        after = ask(lab.judge, x)[1].argmax(1)
        distance = (x - case.states[-1]).square().mean(dim=(1, 2, 3)).sqrt().cpu()  # (n,)
        was, now = before == case.negative, after == case.negative
        rows.append(
            {
                "step": k,
                "negatives": int(now.sum()),
                "negatives_plain": int(was.sum()),
                "gained": int((now & ~was).sum()),
                "lost": int((was & ~now).sum()),
                "positives": int((after == torch.where(case.c < lab.K, case.c, before)).sum()),
                "distance": float(distance.mean()),
                "distance_sd": float(distance.std()),
            }
        )
    return rows


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """By group and step: shares of the images of all seeds, the mean distance, pooled counts."""
    groups = rows.groupby(["group", "step"], sort=False)
    total = groups[["n", "negatives", "negatives_plain", "positives", "gained", "lost"]].sum()
    shares = ("negatives", "negatives_plain", "positives")
    found = {column: wilson(total[column], total["n"]) for column in shares}
    return pd.concat({**found, "distance": over_images(groups, "distance"), "sum": total}, axis=1)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every fifth start step and every stop step; for early windows, a test that p₋ is gained.

    The p-values are of one window each; Holm's hold for all windows of the group together.
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
    return lines[stops | (lines["step"] % 5 == 0)].astype(str)


def plot(rows: pd.DataFrame) -> Figure:
    """Rates and distance over the start step; rates over the stop step of early windows."""
    figure, axes = grid(4, 2, (4.4, 3.1))
    summary = over_seeds(rows)
    for ax, (group, (kind, title)) in zip(axes, GROUPS.items(), strict=True):
        if group not in summary.index:
            continue
        values = summary.loc[group]
        curves = {"negatives": "judged as p₋", "positives": "judged as p₊"}
        if kind == "present":  # there p₊ is p₋
            del curves["positives"]
        elif kind == "any":
            curves["positives"] = "class of the plain picture"
        curves["distance"] = "RMS distance to the plain picture"
        colours = dict(zip(("negatives", "positives", "distance"), COLOURS, strict=False))
        for column, label in curves.items():
            line(ax, values[column], colours[column], label)
        ax.axhline(values["negatives_plain", "mean"].iloc[0], color="0.4", linestyle=":",
                   label="judged as p₋ without it")  # fmt: skip
        which = "start" if group.startswith("start") else "stop"
        if which == "stop":
            ax.set_xticks(list(values.index))
        ax.set(title=title, xlabel=f"{which} step of the negative class",
               ylim=(-0.03, 1.03))  # fmt: skip
        ax.legend(fontsize=6.5, loc="center right" if ax is axes[0] else (0.02, 0.2))
    return figure


EXPERIMENT = Experiment(
    ("group",), lambda flags: {group: group for group in GROUPS}, measure, table, plot,
    rare=("early, p₊ = ∅",),
)  # fmt: skip
