"""When does the negative class take effect? NegPrompt's claims on a class-conditional model.

Every picture starts from the same noise as one without the negative class, and DDIM with η = 0
adds none. So the run whose negative class starts at step k is the plain run up to its state k, and
goes on from there; the run that loses it at step k is the negative run up to its state k.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from ddpm import ddim, timesteps
from ddpm.loss import Predictor
from guidance import classifier_free_guidance, negative_guidance
from train.experiments.plots import COLOURS, Summary, grid, line, proportion
from train.experiments.results import Row
from train.judge import ask
from train.lab import Lab

W = 2.0  # of both guidances; with p₊ = ∅ it is DNG's λ
STOPS = (1, 2, 3, 5, 8, 12, 20)
GROUPS = {
    "start, p₊ a class": "starts late; p₊ and p₋ two classes",
    "start, p₋ present": "starts late; p₊ = ∅, picture of p₋",
    "early, p₊ a class": "early only; p₊ and p₋ two classes",
    "early, p₊ = ∅": "early only; p₊ = ∅, p₋ any class",
}


class Case(NamedTuple):
    """n runs from x_T: their classes, the two predictors, and the plain run's states."""

    c: Tensor  # p₊, (n,), ∅ = K
    negative: Tensor  # p₋, (n,)
    plain: Predictor
    guided: Predictor  # with the negative class
    states: list[Tensor]  # S+1 of (n, C, H, W): x_T first, the picture last
    visited: list[int]  # S values of t


def jobs(args: argparse.Namespace) -> list[Row]:
    """Each group with every seed; three times as many where a rare event is counted."""
    return [
        {"group": group, "seed": seed}
        for group in GROUPS
        for seed in range(args.seeds * (3 if group == "early, p₊ = ∅" else 1))
    ]


def measure(lab: Lab, job: Row, args: argparse.Namespace) -> list[Row]:
    """One row for each start step 0 … S, or for each stop step of an early window."""
    group, rows = str(job["group"]), []
    case = make_case(lab, "any" if "= ∅" in group else "present" if "present" in group else "pair",
                     args.n, args.steps, int(job["seed"]))  # fmt: skip
    before = ask(lab.judge, case.states[-1])[1].argmax(1)
    if group.startswith("start"):
        steps: Sequence[int] = range(args.steps + 1)
    else:
        steps = [k for k in STOPS if k <= args.steps]
        pushed = run(lab, case.guided, case.states[0], case.visited)
    for k in tqdm(steps, unit="step", leave=False, disable=None):
        x = late(lab, case, k) if group.startswith("start") else early(lab, case, pushed, k)
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


def make_case(lab: Lab, kind: str, n: int, S: int, seed: int) -> Case:
    """kind: "pair" is every (p₊, p₋) in turn; "any" and "present" have p₊ = ∅.

    ValueError unless n is a multiple of the number of pairs, so that each comes as often.
    """
    K, unet, schedule = lab.K, lab.models.unet, lab.models.schedule
    if n % (K * (K - 1)):
        raise ValueError(f"--n must be a multiple of the {K * (K - 1)} pairs of classes, got {n}")
    x_T = lab.models.noise(n, torch.Generator().manual_seed(seed))
    i = torch.arange(n)
    visited = timesteps(schedule.T, S)
    if kind == "pair":
        c = i % K
        negative = (c + 1 + i // K % (K - 1)) % K
        plain = classifier_free_guidance(unet, c, W, null=K)
    else:
        c, negative, plain = torch.full((n,), K), i % K, unet
    states = run(lab, plain, x_T, visited)
    if kind == "present":
        negative = ask(lab.judge, states[-1])[1].argmax(1)
    guided = negative_guidance(unet, c, negative, W, null=K)
    return Case(c, negative, plain, guided, states, visited)


def late(lab: Lab, case: Case, k: int) -> Tensor:
    """The pictures where p₋ starts at step k."""
    return run(lab, case.guided, case.states[k], case.visited[k:])[-1]


def early(lab: Lab, case: Case, pushed: list[Tensor], k: int) -> Tensor:
    """The pictures where p₋ is gone from step k on; pushed: the states of the run that keeps it."""
    return run(lab, case.plain, pushed[k], case.visited[k:])[-1]


def run(lab: Lab, predictor: Predictor, x: Tensor, visited: list[int]) -> list[Tensor]:
    """x and every state after it, as DDIM visits these t; x alone if there is none."""
    if not visited:
        return [x]
    with torch.autocast(lab.device.type, lab.dtype, enabled=lab.dtype is not None):
        return [x, *(step.x for step in ddim(lab.models.schedule, predictor, x, visited))]


def pooled(rows: Sequence[Row], group: str, column: str) -> dict[int, Summary]:
    """Step -> share of the images (with Wilson's interval) or mean distance, over all seeds."""
    found: dict[int, Summary] = {}
    for k in sorted({int(row["step"]) for row in rows if row["group"] == group}):
        some = [row for row in rows if row["group"] == group and row["step"] == k]
        n = sum(int(row["n"]) for row in some)
        total = sum(float(row[column]) * (int(row["n"]) if column == "distance" else 1)
                    for row in some)  # fmt: skip
        if column == "distance":
            variance = sum(float(row["distance_sd"]) ** 2 for row in some) / len(some)
            found[k] = Summary.around(total / n, 1.96 * (variance / n) ** 0.5)
        else:
            found[k] = proportion(int(total), n)
    return found


def plot(rows: Sequence[Row]) -> Figure:
    """Rates and distance over the start step; rates over the stop step of early windows."""
    figure, axes = grid(4, 2, (4.4, 3.1))
    curves = {
        "negatives": "judged as p₋",
        "positives": "judged as p₊",
        "distance": "RMS distance to the plain picture",
    }
    for ax, group in zip(axes, GROUPS, strict=True):
        if not any(row["group"] == group for row in rows):
            continue
        for (column, label), colour in zip(curves.items(), COLOURS, strict=False):
            if column == "positives" and group == "start, p₋ present":
                continue  # there it is p₋
            if column == "positives" and group == "early, p₊ = ∅":
                label = "class of the plain picture"
            values = pooled(rows, group, column)
            line(ax, values, list(values.values()), colour, label)
        base = pooled(rows, group, "negatives_plain")
        ax.axhline(next(iter(base.values())).mean, color="0.4", linestyle=":",
                   label="judged as p₋ without it")  # fmt: skip
        stops = group.startswith("early")
        if stops:
            ax.set_xticks(list(base))
        ax.set(
            title=GROUPS[group],
            xlabel=f"{'stop' if stops else 'start'} step of the negative class",
            ylim=(-0.03, 1.03),
        )
        ax.legend(fontsize=6.5, loc="center right" if ax is axes[0] else (0.02, 0.2))
    return figure


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Start steps and stop steps with their rates; for early windows, a test that p₋ is gained.

    The p-values are one by one, not corrected for their number.
    """
    body = []
    for group in GROUPS:
        shares = {k: pooled(rows, group, k) for k in ("negatives", "positives", "distance")}
        for k in shares["negatives"]:
            if group.startswith("start") and k % 5:
                continue
            some = [row for row in rows if row["group"] == group and row["step"] == k]
            gained, lost = (sum(int(row[name]) for row in some) for name in ("gained", "lost"))
            test = f"{sign_test(gained, lost):.2g}" if group.startswith("early") else ""
            row = [group, str(k), *(str(v[k]) for v in shares.values()), f"{gained} : {lost}", test]
            body.append(row)
    head = ["group", "step", "judged p₋", "judged p₊ (if ∅: as without p₋)", "distance"]
    return [[*head, "gained : lost p₋", "p-value"], *body]


def sign_test(gained: int, lost: int) -> float:
    """P(at least as many gains) if gain and loss of p₋ were equally likely: McNemar, one-sided."""
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue) if gained else 1.0
