"""`python -m train.benchmark`: this project beside its peers, interleaved in one process."""

import argparse
import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from guidance.command import Parser, check_counts, choose_device, run
from guidance.models import Models, load_models
from guidance.sampling import Request, Sampler, draw
from train.benchmark import growth, peers, quality
from train.benchmark.clock import Work, device_name, matrix_peak, measure, rate
from train.config import PRESETS, Config
from train.data import Dataset, load_data
from train.experiments.results import Results, Row
from train.hardware import autocast_dtype
from unet import Judge, load

WORKS = ("training", "sampling", "guidance", "growth", "quality")
GUIDANCES = {
    "none": Request("none", 0),
    "classifier, on ε(c)": Request("classifier", 0, scale=1.0, conditional=True),
    "classifier-free": Request("classifier-free", 0, w=1.0),
    "negative": Request("negative", 0, 1, w=1.0),
}


def parser() -> Parser:
    """The flags of `python -m train.benchmark`."""
    p = Parser(
        prog="python -m train.benchmark",
        description="How fast: training and sampling beside diffusers and lucidrains at equal "
        "FLOPs, our guidances beside each other, growth with each size, and time to quality.",
    )
    p.add_argument(
        "work",
        nargs="+",
        choices=WORKS,
        help="training and sampling (these two need the bench extra), guidance, growth, quality",
    )
    p.add_argument("--preset", choices=["mnist", "cifar10"], default="mnist")
    p.add_argument("--data-dir", default="data", help="where torchvision's data sets are")
    p.add_argument(
        "--weights", default="weights/mnist", metavar="DIR", help="for guidance; quality's judge"
    )
    p.add_argument("--rounds", type=int, default=7, help="of each contender (7)")
    p.add_argument("--steps", type=int, default=3, help="training steps a round (3)")
    p.add_argument("--n", type=int, default=16, help="samples a round (16)")
    p.add_argument("--budget", type=int, default=5000, help="quality: training steps in all (5000)")
    p.add_argument("--looks", type=int, default=10, help="quality: how often it is judged (10)")
    p.add_argument("--threads", type=int, default=0, help="of the CPU (0: as torch finds best)")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
    p.add_argument("--eager", action="store_true", help="leave out the compiled contender")
    p.add_argument("--out", default="runs/results", metavar="DIR", help="of the CSV files")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    args = parser().parse_args(arguments)
    return run("python -m train.benchmark", lambda: benchmark(args))


def benchmark(args: argparse.Namespace) -> int:
    """Do the works that were asked for; rows go to the CSV files, tables to the screen."""
    check_counts(args, 1_000_000, "rounds", "steps", "n", "budget", "looks")
    if args.looks > args.budget:
        raise ValueError(f"--looks must be at most --budget = {args.budget}, got {args.looks}")
    if not 0 <= args.threads <= 1024:
        raise ValueError(f"--threads must be at least 0 and at most 1024, got {args.threads}")
    device = choose_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    data, config = load_data(args.preset, args.data_dir).to(device), PRESETS[args.preset]
    peak = matrix_peak(device)
    print(
        f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"bfloat16 matrix product: {peak / 1e9:,.0f} GFLOP/s"
    )
    common: Row = {
        "preset": args.preset,
        "threads": torch.get_num_threads(),
        "rounds": args.rounds,
        "peak_GFLOPs_per_s": peak / 1e9,
    }
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    plain = dataclasses.replace(config, compile="off")
    measured = (
        ("benchmark", table, _beside_peers(args, data, plain)),
        ("growth", growth.table, growth.works(data, plain) if "growth" in args.work else {}),
    )
    for file, show, groups in measured:
        rows = [
            {**common, **row}
            for text, works in groups.items()
            for row in measure(works, args.rounds, device, text)
        ]
        if rows:
            _keep(rows, Path(args.out) / f"{file}-{slug}.csv", show)
    if "quality" in args.work:
        judge, _ = load(Path(args.weights) / "judge.safetensors")
        if not isinstance(judge, Judge):
            raise ValueError(f"--weights {args.weights}: its judge.safetensors holds no judge")
        short = dataclasses.replace(config, steps=args.budget, **quality.IN_A_HURRY)
        rows = quality.measure(data, short, judge.to(device), args.looks)
        _keep(rows, Path(args.out) / f"quality-{slug}.csv", quality.table)
    return 0


def _beside_peers(
    args: argparse.Namespace, data: Dataset, config: Config
) -> dict[str, dict[str, Work]]:
    """The works that have peers, and the guidances beside each other."""
    found: dict[str, dict[str, Work]] = {}
    if {"training", "sampling"} & set(args.work):
        contenders = _contenders(data, config, compiled=not args.eager)
        if "training" in args.work:
            found["training"] = {
                c.name: Work(
                    functools.partial(_repeat, c.step, args.steps),
                    args.steps * config.batch_size,
                    3 * c.flops,
                    c.parameters,
                )
                for c in contenders
            }
        if "sampling" in args.work:
            found["sampling"] = {
                c.name: Work(functools.partial(c.sample, args.n), args.n, 100 * c.flops)
                for c in contenders
            }
    if "guidance" in args.work:
        models = load_models(args.weights, classifier=True, device=data.images.device)
        found["guidance"] = {
            name: Work(_guided(models, request, args.n), args.n)
            for name, request in GUIDANCES.items()
        }
    return found


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each row: rate with its spread over the rounds, and ours against it, per FLOP."""
    head = ["work", "preset", "who", "MFLOPs", "images/s (range)"]
    head += ["GFLOP/s", "of peak", "MB", "ours is"]
    body = []
    for r in rows:
        numbers = ["", "", ""]
        if r["MFLOPs"]:
            share = float(r["GFLOPs_per_s"]) / float(r["peak_GFLOPs_per_s"])
            numbers = [f"{r['MFLOPs']:.0f}", f"{r['GFLOPs_per_s']:.0f}", f"{100 * share:.0f} %"]
        ratio = f"{r['ratio']:.2f} × {'none' if r['work'] == 'guidance' else 'as fast'}"
        memory = f"{r['memory_MB']:.0f}"
        names = [str(r[key]) for key in ("work", "preset", "name")]
        body.append([*names, numbers[0], rate(r), *numbers[1:], memory, ratio])
    return [head, *body]


def _keep(
    rows: Sequence[Row], path: Path, show: Callable[[Sequence[Row]], list[list[str]]]
) -> None:
    """The rows in the place of those that were measured before, and their table."""
    results = Results(path)
    key = ("preset", "threads", "work", "steps")
    new = {tuple(row.get(k) for k in key) for row in rows}
    results.rows = [row for row in results.rows if tuple(row.get(k) for k in key) not in new]
    results.add(rows)
    for cells in show(rows):
        print("| " + " | ".join(cells) + " |")
    print(path)


def _repeat(step: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        step()


def _guided(models: Models, request: Request, n: int) -> Callable[[], Any]:
    c = torch.arange(n) % len(models.classes)
    dtype = autocast_dtype("auto", next(models.unet.parameters()).device)
    return lambda: draw(models, request, Sampler(steps=50), c, 0, batch_size=n, dtype=dtype)


def _contenders(data: Dataset, config: Config, *, compiled: bool) -> list[peers.Contender]:
    found = [peers.ours(data, config)]
    if compiled:
        on = dataclasses.replace(config, compile="on")
        found.append(peers.ours(data, on, "this project, compiled"))
    try:
        for peer in (peers.diffusers, peers.lucidrains):
            for precision in ("float32", "auto"):
                found.append(peer(data, config, precision, found[0].flops))
    except ImportError as error:
        raise ValueError(f"{error}; pip install 'ddpm-guidance[bench]'") from error
    return found


if __name__ == "__main__":
    sys.exit(main())
