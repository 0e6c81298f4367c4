"""Remove a class from unconditional sampling: DNG's protocol, one class after the other."""

import argparse
from collections.abc import Sequence

import torch
from guidance.sampling import Request, Sampler
from matplotlib.figure import Figure

from train import metrics
from train.experiments.plots import COLOURS, Summary, grid, summary
from train.experiments.results import Row
from train.judge import ask
from train.lab import Lab

# λ of each method; "late" starts after 40 % of the steps
LAMBDAS = {
    "constant λ": (0.25, 0.5, 1, 2),
    "constant λ, late": (0.5, 1, 2, 4),
    "λ_0·p/(1 − p)": (0.5, 1, 2, 4),
}
MEASURES = {
    "share": "share of the removed class (%)",
    "kl": "KL to uniform over the nine kept (nats)",
    "frechet": "Fréchet distance to real images without the class",
}


def jobs(args: argparse.Namespace) -> list[Row]:
    """No guidance at all, then each method over its λ; a job does all ten classes.

    ValueError for a single sample, which has no distance to anything.
    """
    if args.n < 2:
        raise ValueError(f"--n must be at least 2, got {args.n}")
    settings = [("none", 0.0), *((m, v) for m, values in LAMBDAS.items() for v in values)]
    return [{"method": m, "lambda": v, "seed": s} for s in range(args.seeds) for m, v in settings]


def measure(lab: Lab, job: Row, args: argparse.Namespace) -> list[Row]:
    """n samples with each class removed: one row a class."""
    seed, method, value = int(job["seed"]), str(job["method"]), float(job["lambda"])
    sampler, null = Sampler(steps=args.steps), torch.full((args.n,), lab.K)
    late = round(0.4 * args.steps)
    rows: list[Row] = []
    x = lab.draw(Request("none", lab.K), sampler, null, seed) if method == "none" else None
    for removed in range(lab.K):
        request = {
            "none": None,
            "constant λ": Request("negative", lab.K, removed, value),
            "constant λ, late": Request("negative", lab.K, removed, value, start_step=late),
            "λ_0·p/(1 − p)": Request("posterior-negative", lab.K, removed, scale=value),
        }[method]
        if request is not None:
            x = lab.draw(request, sampler, null, seed, f"without {lab.models.classes[removed]}")
        assert x is not None
        rows.append({"removed": removed, **_measured(lab, x, removed, seed)})
    return rows


def _measured(lab: Lab, x: torch.Tensor, removed: int, seed: int) -> Row:
    features, logits = ask(lab.judge, x)
    classes = logits.argmax(1)
    kept = torch.tensor([k for k in range(lab.K) if k != removed])
    real = lab.train[torch.isin(lab.data.labels, kept)]
    held_out = lab.test[torch.isin(lab.data.test_labels, kept)]
    generator = torch.Generator().manual_seed(seed)
    if len(x) > len(held_out):
        raise ValueError(
            f"--n must be at most {len(held_out)}, the real test images without a class"
        )
    some = held_out[torch.randperm(len(held_out), generator=generator)[: len(x)]]
    judged = lab.judge.logits(some.to(lab.device)).argmax(1).cpu()
    return {
        "share": 100 * float((classes == removed).double().mean()),
        "kl": metrics.kl_to_uniform(classes, removed, lab.K),
        "kl_real": metrics.kl_to_uniform(judged, removed, lab.K),
        "frechet": metrics.frechet_distance(real, features),
        "frechet_real": metrics.frechet_distance(real, some),
    }


def plot(rows: Sequence[Row]) -> Figure:
    """Share of the removed class against distance and against balance; one curve a method."""
    figure, axes = grid(2, 2, (4.4, 3.4))
    for ax, column in zip(axes, ("frechet", "kl"), strict=True):
        for (method, values), colour in zip(LAMBDAS.items(), COLOURS, strict=False):
            x = [_over_classes(rows, "share", method, v) for v in values]
            y = [_over_classes(rows, column, method, v) for v in values]
            ax.errorbar(
                [p.mean for p in x],
                [p.mean for p in y],
                [p.high - p.mean for p in y],
                [p.high - p.mean for p in x],
                color=colour,
                label=method,
                marker="o",
                markersize=3,
                elinewidth=0.6,
            )
            for v, p, q in zip(values, x, y, strict=True):
                ax.annotate(f"{v:g}", (p.mean, q.mean), (3, 3), textcoords="offset points",
                            fontsize=6, color=colour)  # fmt: skip
        none = (_over_classes(rows, "share", "none", 0), _over_classes(rows, column, "none", 0))
        ax.plot(none[0].mean, none[1].mean, "k*", label="no guidance")
        ax.set(xlabel=MEASURES["share"], title=MEASURES[column])
        ax.set_xscale("symlog", linthresh=0.5)
        real = _over_classes(rows, f"{column}_real", "none", 0).mean
        ax.axhline(real, color="0.4", linestyle="--", label="as many real images")
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=7)
    return figure


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each method and λ; means and 95 % intervals are over removed classes."""
    settings = [("none", 0), *((m, v) for m, values in LAMBDAS.items() for v in values)]
    body = [
        [m, f"{v:g}", *(str(_over_classes(rows, k, m, v)) for k in MEASURES)] for m, v in settings
    ]
    body[0][2] = "10"  # the shares of all classes are the whole: nothing to average
    real = [str(_over_classes(rows, f"{k}_real", "none", 0)) for k in ("kl", "frechet")]
    return [["method", "λ", *MEASURES.values()], *body, ["real images", "", "", *real]]


def _over_classes(rows: Sequence[Row], column: str, method: str, value: float) -> Summary:
    """The mean over the removed classes, each a mean over seeds, with Student's interval."""
    some = [row for row in rows if row["method"] == method and row["lambda"] == value]
    classes = sorted({int(row["removed"]) for row in some})
    each: list[Row] = [{"mean": summary(some, column, removed=k).mean} for k in classes]
    return summary(each, "mean")
