"""What should come out: real digits without the ring. How near do the guidances come to them?

p₊ is a digit and p₋ a concept that it may have. The right answer, p(x|p₊, not p₋), is there to be
looked at: the real images of that digit of which p₋ is not true.
"""

from functools import partial
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ddpm import ddim
from guidance.app.colours import FREE, LATE, NEGATIVE, NONE, POSTERIOR
from guidance.app.draw import window
from guidance.app.guides import Guide, classifier_free, negative, none, posterior_negative
from train.evaluate import metrics
from train.evaluate.lab import Lab
from train.evaluate.results import Row
from train.experiments.cases import QUESTIONS, sixth_to_half
from train.experiments.intervals import cells, student, wilson
from train.experiments.plots import grid
from train.experiments.sweep import Experiment
from train.judge import ask, held_true

MEASURES = {
    "left": "judged p₋",
    "kept": "judged p₊",
    "kl": "KL to the right answers (nats)",
    "frechet": "Fréchet distance to the right images",
}
FAMILIES = {  # of the plot: a colour, a marker, and the methods that a curve joins
    "ε(p₊)": (NONE, "*", r"ε\(p₊\)"),
    "classifier-free": (FREE, "s", r"classifier-free, .*"),
    "negative": (NEGATIVE, "o", r"negative, w = \d"),
    "negative, a sixth to a half": (LATE, "D", r"negative, .* a sixth to a half"),
    "λ_0·p/(1 − p)": (POSTERIOR, "^", r".*·p/\(1 − p\)"),
}
LEFT_OUT = ("ring weakly implied",)  # one picture in twenty has a ring: nothing to be seen in few


def guides(lab: Lab, S: int) -> dict[tuple[str, str], Guide]:
    """By question and guidance."""
    if lab.models.exclusive:
        raise ValueError("--weights must know concepts, of which several can be true of a picture")
    start, stop = window(lab.models.schedule.T, S, *sixth_to_half(S))
    found: dict[tuple[str, str], Guide] = {}
    for question, (_, concept) in QUESTIONS.items():
        if question in LEFT_OUT:
            continue
        of: dict[str, Guide] = {"ε(p₊)": none(), "classifier-free, w = 2": classifier_free(2.0)}
        of |= {f"negative, w = {w:g}": negative(concept, w) for w in (1.0, 2.0, 4.0)}
        of["negative, w = 2, a sixth to a half"] = negative(concept, 2.0, start=start, stop=stop)
        for scale in (0.5, 1.0, 2.0):
            guide = posterior_negative(concept, scale, conditional=True)
            of[f"{scale:g}·p/(1 − p)"] = guide
        found |= {(question, name): guide for name, guide in of.items()}
    return found


def settings(flags: Any, lab: Lab) -> dict[tuple[str, str], tuple[str, Guide]]:
    """{(question, guidance): what `measure` needs of both}."""
    return {key: (key[0], guide) for key, guide in guides(lab, flags.steps).items()}


def measure(lab: Lab, setting: tuple[str, Guide], seed: int, flags: Any) -> list[Row]:
    """n samples of a question's digits, beside the right images and as many that are held out."""
    question, guide = setting
    digits, concept = QUESTIONS[question]
    if flags.n % len(digits) or flags.n < 2 * len(digits):
        raise ValueError(f"--n must be a multiple of {len(digits)} digits, two of each or more, "
                         f"got {flags.n}")  # fmt: skip
    c = torch.tensor(digits).repeat(flags.n // len(digits))
    x = lab.draw(guide, c, seed, partial(ddim, steps=flags.steps), question)
    features, logits = ask(lab.judge, x)
    said = held_true(logits, exclusive=False)  # (n, K)
    right = right_images(lab.data.labels.cpu(), digits, concept, None, seed)
    beside = right_images(lab.data.test_labels.cpu(), digits, concept, len(c) // len(digits), seed)
    real, held_out = lab.train_features[right], lab.test_features[beside]
    answers, others = (
        held_true(lab.judge.logits(f.to(lab.device)).cpu(), exclusive=False)
        for f in (real, held_out)
    )
    return [
        {
            "left": int(said[:, concept].sum()),
            "kept": int(said.gather(1, c[:, None]).sum()),
            "kl": metrics.kl_of_answers(answers, said),
            "kl_real": metrics.kl_of_answers(answers, others),
            "frechet": metrics.frechet_distance(real, features),
            "frechet_real": metrics.frechet_distance(real, held_out),
        }
    ]


def right_images(
    true: Tensor, digits: tuple[int, ...], concept: int, each: int | None, seed: int
) -> Tensor:
    """Places of images of the digits without the concept, as many of each: `each`, or all there are
    of the rarest. true: (N, K) bool. ValueError where there are not enough."""
    order = torch.randperm(len(true), generator=torch.Generator().manual_seed(seed))
    found = [order[true[order, digit] & ~true[order, concept]] for digit in digits]
    most = min(map(len, found))
    if not most:
        raise ValueError(f"no image of one of the labels {digits} is without label {concept}")
    if each is not None and each > most:
        raise ValueError(f"--n must be at most {most * len(digits)}, as many right images are "
                         f"held out; got {each * len(digits)}")  # fmt: skip
    return torch.cat([places[: each or most] for places in found])


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """By question and guidance: shares of the images of all seeds, means of the others."""
    groups = rows.groupby(["group", "method"], sort=False)
    total = groups[["left", "kept", "n"]].sum()
    found = {column: wilson(total[column], total["n"]) for column in ("left", "kept")}
    for column in ("kl", "frechet", "kl_real", "frechet_real"):
        found[column] = student(groups[column])
    return pd.concat(found, axis=1)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each question and guidance, and one for as many real images that are right."""
    summary = over_seeds(rows)
    lines = cells(summary[list(MEASURES)]).rename(columns=MEASURES).reset_index()
    real = cells(summary[["kl_real", "frechet_real"]]).groupby("group", sort=False).first()
    names = {f"{k}_real": v for k, v in MEASURES.items()}
    real = real.rename(columns=names).reset_index().assign(method="real images")
    every = [pd.concat([of, real[real["group"] == question]])
             for question, of in lines.groupby("group", sort=False)]  # fmt: skip
    return pd.concat(every).fillna("")


def plot(rows: pd.DataFrame) -> Figure:
    """For each question, what is left of p₋ against the distance to the right images."""
    summary = over_seeds(rows)
    questions = list(summary.index.unique(0))
    figure, axes = grid(len(questions), 3, (3.6, 3.3))
    for ax, question in zip(axes, questions, strict=True):
        left = summary.loc[question]
        for name, (colour, marker, methods) in FAMILIES.items():
            at = left[left.index.str.fullmatch(methods)]
            ends = [abs(at[k][["low", "high"]].to_numpy() - at[k][["mean"]].to_numpy()).T
                    for k in ("frechet", "left")]  # fmt: skip
            ax.errorbar(at["left", "mean"], at["frechet", "mean"], *ends, color=colour,
                        marker=marker, markersize=5, elinewidth=0.6, label=name)  # fmt: skip
        ax.axhline(left["frechet_real", "mean"].iloc[0], color="0.4", linestyle="--",
                   label="as many right images")  # fmt: skip
        ax.set(title=question, xlabel=MEASURES["left"], xlim=(-0.03, 1.03), yscale="log",
               ylim=(0.9, 220))  # fmt: skip
        ax.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        ax.minorticks_off()
    axes[0].set_ylabel(MEASURES["frechet"], fontsize=8)
    axes[-1].legend(fontsize=6.5)
    return figure


EXPERIMENT = Experiment(
    ("group", "method"), settings, measure, table, plot, classifier=True, concepts=True
)
