"""`python -m train.experiments NAME`: measure, write a CSV, print a table, draw a plot."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from guidance.command import Parser, check_counts, replacing, run
from matplotlib.figure import Figure
from tqdm import tqdm

from train.experiments import course, guided, removal, samplers, timing
from train.experiments.results import Results, Row
from train.lab import Lab


class Experiment(NamedTuple):
    """A question: its jobs, how one is measured, and how the rows of all are shown."""

    question: str
    jobs: Callable[[argparse.Namespace], list[Row]]
    measure: Callable[[Lab, Row, argparse.Namespace], list[Row]]
    table: Callable[[Sequence[Row]], list[list[str]]]
    plot: Callable[[Sequence[Row]], Figure]
    classifier: bool = False  # whether it needs p_φ
    pairs: bool = False  # whether n counts pairs of classes, all at once


EXPERIMENTS = {
    "price-of-w": Experiment(
        "what classifier-free guidance buys and costs, over w",
        guided.price_of_w_jobs,
        guided.price_of_w,
        guided.table_price_of_w,
        guided.plot_price_of_w,
    ),
    "classifier": Experiment(
        "classifier guidance on ε(∅) and ε(c) beside classifier-free, at equal strength",
        guided.classifier_jobs,
        guided.classifier,
        guided.table_classifier,
        guided.plot_classifier,
        classifier=True,
    ),
    "removal": Experiment(
        "removing a class from unconditional sampling: constant λ, started late, λ = p/(1−p)",
        removal.jobs,
        removal.measure,
        removal.table,
        removal.plot,
        classifier=True,
    ),
    "timing": Experiment(
        "when the negative class takes effect: every start step, and early windows",
        timing.jobs,
        timing.measure,
        timing.table,
        timing.plot,
        pairs=True,
    ),
    "course": Experiment(
        "what the negative class does inside the steps: norms, cosine, p_φ, D^(t)",
        course.jobs,
        course.measure,
        course.table,
        course.plot,
        classifier=True,
        pairs=True,
    ),
    "samplers": Experiment(
        "distance against the number of steps, ancestral and DDIM",
        samplers.jobs,
        samplers.measure,
        samplers.table,
        samplers.plot,
    ),
}


def parser() -> Parser:
    """The flags of `python -m train.experiments`."""
    p = Parser(
        prog="python -m train.experiments",
        description="One experiment: a CSV file, a plot beside it, and a table on the screen. "
        "What the CSV file holds already is not measured again.",
    )
    names = p.add_subparsers(dest="name", required=True, metavar="|".join(EXPERIMENTS))
    for name, experiment in EXPERIMENTS.items():
        q = names.add_parser(name, help=experiment.question, description=experiment.question)
        q.add_argument("--weights", default="weights/mnist", metavar="DIR", help="trained networks")
        q.add_argument("--data-dir", default="data", help="where torchvision's data sets are")
        q.add_argument("--out", default="runs/results", metavar="DIR", help="of the CSV and plot")
        n = 90 if experiment.pairs else 100
        q.add_argument("--n", type=int, default=n, help=f"samples a seed and setting ({n})")
        q.add_argument(
            "--seeds", type=int, default=2, help="how many; 95 %% intervals are over them"
        )
        q.add_argument("--steps", type=int, default=20, help="updates of the sampler (20)")
        if not experiment.pairs:
            q.add_argument("--batch-size", type=int, default=100, help="images at once (100)")
        q.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
        q.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
        q.add_argument(
            "--compile",
            default="auto",
            choices=["auto", "on", "off"],
            help="torch.compile for ε_θ: faster samples, a minute later (auto: on CUDA)",
        )
        q.add_argument("--plot", action="store_true", help="measure nothing: table and plot again")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    args = parser().parse_args(arguments)
    return run("python -m train.experiments", lambda: experiment(args))


def experiment(args: argparse.Namespace) -> int:
    """Measure what the CSV file lacks, then show all of it."""
    args.batch_size = getattr(args, "batch_size", args.n)
    check_counts(args, 1_000_000, "n", "steps", "batch_size")
    check_counts(args, 1000, "seeds")
    chosen = EXPERIMENTS[args.name]
    path = Path(args.out) / f"{args.name}.csv"
    results = Results(path)
    rows = last_sweep(results) if args.plot else _measure(chosen, args, results)
    for cells in chosen.table(rows):
        print("| " + " | ".join(cells) + " |")
    with replacing(path.with_suffix(".png")) as partial:
        chosen.plot(rows).savefig(partial)
    print(f"\n{len(rows)} rows in {path}; {path.with_suffix('.png')}")
    return 0


COMMON = ("data", "weights", "dtype", "steps", "n")


def last_sweep(results: Results) -> list[Row]:
    """The rows that belong together with the last one. ValueError if there are none."""
    if not results.rows:
        raise ValueError(f"--plot: there is nothing in {results.path}")
    return results.matching({k: results.rows[-1][k] for k in COMMON})


def _measure(chosen: Experiment, args: argparse.Namespace, results: Results) -> list[Row]:
    """The rows of the sweep that args asks for, once none of its jobs is missing."""
    lab = Lab(args, classifier=chosen.classifier)
    dtype = str(lab.dtype or torch.float32).removeprefix("torch.")
    values = (lab.data.name, lab.fingerprint, dtype, args.steps, args.n)
    common: Row = dict(zip(COMMON, values, strict=True))
    results.expect(COMMON)
    jobs = [{**common, **job} for job in chosen.jobs(args)]
    missing = [job for job in jobs if not results.matching(job)]
    if len(missing) < len(jobs):
        print(f"{len(jobs) - len(missing)} of {len(jobs)} jobs are in {results.path} already")
    with tqdm(missing, unit="job", disable=None) as bar:
        for job in bar:
            bar.set_description(
                ", ".join(f"{k} {v}" for k, v in job.items() if k not in COMMON), refresh=False
            )
            results.add([{**job, **measured} for measured in chosen.measure(lab, job, args)])
    return results.matching(common)


if __name__ == "__main__":
    sys.exit(main())
