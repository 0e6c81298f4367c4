"""`python -m train.benchmark`: this project beside its peers, interleaved in one process.

A B C A B C …, so that what else the machine does hits all alike; ratios are taken round by round.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from guidance.command import Parser, check_counts, choose_device, run
from guidance.models import Models, load_models
from guidance.sampling import Request, Sampler, draw
from train import peers
from train.config import PRESETS, Config
from train.data import Dataset, load_data
from train.experiments.results import Results, Row
from train.loop import autocast_dtype

Timed = dict[str, Callable[[], Any]]
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
        description="Training steps and guided samples of this project, diffusers and lucidrains "
        "at equal FLOPs, and our guidances beside each other. Needs the bench extra.",
    )
    p.add_argument("--preset", choices=["mnist", "cifar10"], default="mnist")
    p.add_argument("--data-dir", default="data", help="where torchvision's data sets are")
    p.add_argument("--weights", default="weights/mnist", metavar="DIR", help="for the guidances")
    p.add_argument("--rounds", type=int, default=7, help="of each contender (7)")
    p.add_argument("--steps", type=int, default=3, help="training steps a round (3)")
    p.add_argument("--n", type=int, default=16, help="samples a round (16)")
    p.add_argument("--threads", type=int, default=0, help="of the CPU (0: as torch finds best)")
    p.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
    p.add_argument("--out", default="runs/results", metavar="DIR", help="of benchmark-DEVICE.csv")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    args = parser().parse_args(arguments)
    return run("python -m train.benchmark", lambda: benchmark(args))


def benchmark(args: argparse.Namespace) -> int:
    """Training, sampling, guidances; the rows go to the CSV file and the screen."""
    check_counts(args, 100_000, "rounds", "steps", "n")
    if not 0 <= args.threads <= 1024:
        bound = "at least 0" if args.threads < 0 else "at most 1024"
        raise ValueError(f"--threads must be {bound}, got {args.threads}")
    device = choose_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    data, config = load_data(args.preset, args.data_dir).to(device), PRESETS[args.preset]
    models = load_models(args.weights, classifier=True, device=device)
    contenders = _contenders(data, config)
    peak = _peak(device)
    print(
        f"{_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"bfloat16 matrix product: {peak / 1e9:,.0f} GFLOP/s"
    )
    common: Row = {
        "device": _name(device),
        "threads": torch.get_num_threads(),
        "preset": args.preset,
        "rounds": args.rounds,
    }
    rows = []
    works: list[tuple[str, int, int, Timed]] = [
        (
            "training",
            args.steps * config.batch_size,
            3,  # forward passes' worth of FLOPs an image
            {c.name: functools.partial(_repeat, c.step, args.steps) for c in contenders},
        ),
        (
            "sampling",
            args.n,
            100,
            {c.name: functools.partial(c.sample, args.n) for c in contenders},
        ),
    ]
    for work, images, passes, timed in works:
        measured = _interleaved(timed, images, args.rounds, device, work)
        for contender in contenders:
            numbers = measured[contender.name]
            effective = contender.flops * passes * float(numbers["images_per_s"])
            costs: Row = {
                "forward_MFLOPs": contender.flops / 1e6,
                "parameters": contender.parameters,
                "GFLOPs_per_s": effective / 1e9,
                "share_of_peak": effective / peak,
            }
            numbers["ratio"] = float(numbers["ratio"]) * contenders[0].flops / contender.flops
            rows.append({**common, "work": work, "name": contender.name, **numbers, **costs})
    guided = {name: _guided(models, request, args.n) for name, request in GUIDANCES.items()}
    blank = dict.fromkeys(costs, 0.0)
    for name, numbers in _interleaved(guided, args.n, args.rounds, device, "guidance").items():
        rows.append({**common, "work": "guidance", "name": name, **numbers, **blank})
    for cells in table(rows):
        print("| " + " | ".join(cells) + " |")
    slug = re.sub(r"[^a-z0-9]+", "-", _name(device).lower()).strip("-")
    path = Path(args.out) / f"benchmark-{slug}.csv"
    Results(path).add(rows)
    print(path)
    return 0


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each row: rate with its spread over the rounds, and ours against it, per FLOP."""
    head = ["work", "who", "MFLOPs", "images/s (range)", "GFLOP/s", "of bf16 peak", "ours is"]
    body = []
    for r in rows:
        rate = f"{r['images_per_s']:.3g} ({r['lowest']:.3g}–{r['highest']:.3g})"
        numbers = ["", "", ""]
        if r["forward_MFLOPs"]:
            numbers = [f"{r['forward_MFLOPs']:.0f}", f"{r['GFLOPs_per_s']:.0f}"]
            numbers.append(f"{100 * float(r['share_of_peak']):.0f} %")
        cost = f"{r['ratio']:.2f} × {'none' if r['work'] == 'guidance' else 'as fast'}"
        body.append([str(r["work"]), str(r["name"]), numbers[0], rate, *numbers[1:], cost])
    return [head, *body]


def _repeat(step: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        step()


def _guided(models: Models, request: Request, n: int) -> Callable[[], Any]:
    c = torch.arange(n) % len(models.classes)
    dtype = autocast_dtype("auto", next(models.unet.parameters()).device)
    return lambda: draw(models, request, Sampler(steps=50), c, 0, batch_size=n, dtype=dtype)


def _contenders(data: Dataset, config: Config) -> list[peers.Contender]:
    config = dataclasses.replace(config, precision="auto")
    found = [peers.ours(data, config)]
    try:
        for peer in (peers.diffusers, peers.lucidrains):
            for precision in ("float32", "auto"):
                found.append(peer(data, config, precision, found[0].flops))
    except ImportError as error:
        raise ValueError(f"{error}; pip install 'ddpm-guidance[bench]'") from error
    return found


def _interleaved(
    timed: Timed, images: int, rounds: int, device: torch.device, text: str
) -> dict[str, Row]:
    """Images a second of each, their range over the rounds, and the ratio to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    with tqdm(total=(rounds + 1) * len(timed), desc=text, leave=False, disable=None) as bar:
        for round_ in range(rounds + 1):  # the first warms up
            for name, call in timed.items():
                with contextlib.redirect_stderr(io.StringIO()):  # a peer has a bar of its own
                    _wait(device)
                    begin = time.perf_counter()
                    call()
                    _wait(device)
                if round_:
                    seconds[name].append(time.perf_counter() - begin)
                bar.update()
    first = next(iter(seconds.values()))
    return {
        name: {
            "images_per_s": images / statistics.median(own),
            "lowest": images / max(own),
            "highest": images / min(own),
            "ratio": statistics.median(b / a for a, b in zip(first, own, strict=True)),
        }
        for name, own in seconds.items()
    }


def _peak(device: torch.device) -> float:
    """FLOP/s of a large bfloat16 matrix product, the best of several."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device).bfloat16()
    best = float("inf")
    for _ in range(10):
        _wait(device)
        begin = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * n**3 / best


def _wait(device: torch.device) -> None:
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


if __name__ == "__main__":
    sys.exit(main())
