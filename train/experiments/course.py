"""What goes on inside the steps: NegPrompt's delayed effect, neutralisation and inducing effect."""

from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from guidance.app.colours import CLASS, MINUS, NULL, PLUS
from train.evaluate.lab import Lab
from train.evaluate.results import Row
from train.experiments.cases import QUESTIONS, make_case, run
from train.experiments.intervals import cells, over_images
from train.experiments.plots import grid, line
from train.experiments.sweep import Experiment

PULL = "‖ε%s − ε_∅‖"
SEEN = "p_φ(c%s|x_t)"
RUN_WITH = "run with p₋"  # dashed
CURVES = {  # panel: (group, run, column, label) of its lines
    "pull of two classes p₊ and p₋": (
        ("pair", "plain", "norm_positive", PULL % "₊"),
        ("pair", "plain", "norm_negative", PULL % "₋"),
        ("pair", "negative", "norm_negative", PULL % "₋" + ", run with p₋"),
    ),
    "ratio " + PULL % "₋" + " / " + PULL % "₊": (
        ("pair", "plain", "ratio", "run without p₋"),
        ("pair", "negative", "ratio", "run with p₋"),
    ),
    "cosine of ε₊ − ε_∅ and ε₋ − ε_∅": (
        ("pair", "plain", "cosine", "run without p₋"),
        ("pair", "negative", "cosine", "run with p₋"),
    ),
    "what the noisy classifier sees in x_t": (
        ("pair", "plain", "p_positive", SEEN % "₊" + ", p₊ a class"),
        ("pair", "plain", "p_negative", SEEN % "₋" + ", p₊ a class"),
        ("present", "plain", "p_negative", SEEN % "₋" + ", p₊ = ∅, picture of p₋"),
        ("present", "negative", "p_negative", "the same, run with p₋"),
    ),
    "pull of p₋: p₊ = ∅, picture of p₋": (
        ("present", "plain", "norm_negative", PULL % "₋" + ", run without p₋"),
        ("present", "negative", "norm_negative", PULL % "₋" + ", run with p₋"),
    ),
    "inducing effect D^(t)": (
        ("pair", "negative", "induced", "p₊ a class"),
        ("present", "negative", "induced", "p₊ = ∅, picture of p₋"),
    ),
}
# As notebook 6 has a three, a zero and a seven
OF_QUESTIONS = dict(zip(QUESTIONS, (CLASS[2], CLASS[0], CLASS[4], CLASS[1]), strict=True))


OF_SCENES = {  # of a digit p₊ a line for each question
    title: tuple((question, which, column, question + more) for question in QUESTIONS)
    for title, which, column, more in (
        ("ratio " + PULL % "₋" + " / " + PULL % "₊", "plain", "ratio", ", run without p₋"),
        ("cosine of ε₊ − ε_∅ and ε₋ − ε_∅", "plain", "cosine", ", run without p₋"),
        ("p_φ(c₋|x_t), run without p₋", "plain", "p_negative", ""),
        ("p_φ(c₋|x_t), run with p₋", "negative", "p_negative", ""),
        ("pull of p₋: " + PULL % "₋", "plain", "norm_negative", ", run without p₋"),
        ("inducing effect D^(t)", "negative", "induced", ""),
    )
}


def kinds(lab: Lab) -> tuple[str, ...]:
    """The cases that can be asked of these networks."""
    return ("pair", "present") if lab.models.exclusive else tuple(QUESTIONS)


def curves_of(rows: pd.DataFrame) -> dict[str, tuple[tuple[str, str, str, str], ...]]:
    """The panels for what was measured."""
    return CURVES if rows["group"].isin(["pair", "present"]).any() else OF_SCENES


@torch.no_grad()
def measure(lab: Lab, group: str, seed: int, flags: Any) -> list[Row]:
    """A row for each run, without the negative class and with it, and for each step."""
    case = make_case(lab, group, flags.n, flags.steps, seed)
    c, negative = case.c.to(lab.device), case.negative.to(lab.device)
    runs = {"plain": case.states, "negative": run(lab, case.guided, case.states[0], case.visited)}
    rows: list[Row] = []
    plain: list[Tensor] = []  # of each step, the projection in the plain run, (n,)
    for name, states in runs.items():
        for k, (x, t) in enumerate(zip(states, case.visited, strict=False)):
            values = predictions(lab, x, torch.full((len(x),), t, device=x.device), c, negative)
            if name == "plain":
                plain.append(values["projection"])
            # D^(t): the projection, less that of the run without the negative class
            values["induced"] = values["projection"] - plain[k]
            row: Row = {"run": name, "step": k, "t": t}
            for key, value in values.items():
                row |= {key: float(value.mean()), f"{key}_sd": float(value.std())}
            rows.append(row)
    return rows


def predictions(lab: Lab, x: Tensor, t: Tensor, c: Tensor, negative: Tensor) -> dict[str, Tensor]:
    """What the three predictions and the noisy classifier say of x_t, a number for each image.

    In float32, whatever the runs were made in: at large t the predictions differ by less than
    bfloat16's rounding, and the rounding of ε_∅, which both differences share, gives them a
    cosine of a half.
    """
    K, models = lab.K, lab.models
    parts = [models.unet(x, t, token) for token in (c, negative, torch.full_like(c, K))]
    eps_p, eps_n, eps_null = (part.float().flatten(1) for part in parts)  # (n, C·H·W)
    to_p, to_n = eps_p - eps_null, eps_n - eps_null
    values = {
        "norm_negative": to_n.norm(dim=1),
        "norm_positive": to_p.norm(dim=1),
        "ratio": to_n.norm(dim=1) / to_p.norm(dim=1),
        "cosine": torch.cosine_similarity(to_p, to_n),
        "p_negative": models.log_prob(negative)(x, t).exp(),
        "p_positive": models.log_prob(c % K)(x, t).exp(),
        "projection": (eps_p * eps_n).sum(1).abs() / eps_n.norm(dim=1),
    }
    for key in ("norm_positive", "ratio", "cosine", "p_positive"):  # ∅ has no class of its own
        values[key] = torch.where(c < K, values[key], torch.nan)
    return values


def curve(rows: pd.DataFrame, group: str, which: str, column: str) -> pd.DataFrame:
    """Mean and interval over the images of all seeds, for every step; NaN where nothing is yet."""
    chosen = rows[(rows["group"] == group) & (rows["run"] == which)]
    steps = sorted(rows["step"].unique())
    return over_images(chosen.groupby("step"), column).reindex(steps)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every fifth step of every curve in the plot."""
    lines = []
    for title, curves in curves_of(rows).items():
        for *key, label in curves:
            values = cells(pd.concat({"x": curve(rows, *key)}, axis=1))["x"]
            steps = {f"step {k}": text for k, text in values.items() if k % 5 == 0}
            names = {"quantity": title, "of": label}
            lines.append({k: v.replace("|", "\\|") for k, v in (names | steps).items()})
    return pd.DataFrame(lines)


def plot(rows: pd.DataFrame) -> Figure:
    """Each quantity over the steps."""
    panels = curves_of(rows)
    figure, axes = grid(len(panels), 3, (4.2, 3.1))
    for ax, (title, curves) in zip(axes, panels.items(), strict=True):
        for group, which, column, label in curves:
            values, style = curve(rows, group, which, column), "--" if RUN_WITH in label else "-"
            line(ax, values, colour(group, column), _set(label), markersize=0, linestyle=style)
        ax.set(xlabel="step", title=_set(title))
        ax.legend(fontsize=6.5, framealpha=0.6)
    return figure


def colour(group: str, column: str) -> str:
    """p₊'s or p₋'s, and ∅'s where p₊ is ∅; of scenes one for each question."""
    if group in QUESTIONS:
        return OF_QUESTIONS[group]
    if group == "present":
        return NULL
    return PLUS if column.endswith("_positive") else MINUS


def _set(text: str) -> str:
    """What plain text can't set, set by matplotlib."""
    for plain, maths in (
        ("ε_∅", r"$\epsilon_\varnothing$"),
        ("ε₊", r"$\epsilon_+$"),
        ("ε₋", r"$\epsilon_-$"),
        ("p_φ", r"$p_\phi$"),
        ("x_t", "$x_t$"),
        ("D^(t)", "$D^{(t)}$"),
    ):
        text = text.replace(plain, maths)
    return text


EXPERIMENT = Experiment(
    ("group",), lambda flags, lab: {kind: kind for kind in kinds(lab)}, measure, table, plot,
    classifier=True, concepts=True,
)  # fmt: skip
