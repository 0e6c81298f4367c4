"""What goes on inside the steps: NegPrompt's delayed effect, neutralisation and inducing effect."""

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from train.evaluate.lab import Lab
from train.evaluate.results import Row
from train.experiments.cases import QUESTIONS, make_case, run
from train.experiments.course_plot import curve, curves_of, plot
from train.experiments.intervals import cells
from train.experiments.sweep import Experiment


def kinds(lab: Lab) -> tuple[str, ...]:
    """The cases that can be asked of these networks."""
    return ("pair", "present") if lab.models.exclusive else tuple(QUESTIONS)


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


EXPERIMENT = Experiment(
    ("group",), lambda flags, lab: {kind: kind for kind in kinds(lab)}, measure, table, plot,
    classifier=True, concepts=True,
)  # fmt: skip
