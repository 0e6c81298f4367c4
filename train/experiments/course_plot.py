"""The curves of `course`: which there are, and how they are drawn."""

import pandas as pd
from matplotlib.figure import Figure

from guidance.app.colours import CLASS, MINUS, NULL, PLUS
from train.experiments.cases import QUESTIONS
from train.experiments.intervals import over_images
from train.experiments.plots import grid, line

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


def curves_of(rows: pd.DataFrame) -> dict[str, tuple[tuple[str, str, str, str], ...]]:
    """The panels for what was measured."""
    return CURVES if rows["group"].isin(["pair", "present"]).any() else OF_SCENES


def curve(rows: pd.DataFrame, group: str, which: str, column: str) -> pd.DataFrame:
    """Mean and interval over the images of all seeds, for every step; NaN where nothing is yet."""
    chosen = rows[(rows["group"] == group) & (rows["run"] == which)]
    steps = sorted(rows["step"].unique())
    return over_images(chosen.groupby("step"), column).reindex(steps)


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
