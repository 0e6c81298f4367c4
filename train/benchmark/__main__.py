"""`python -m train.benchmark`: this project beside its peers, interleaved in one process."""

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from guidance.app.flags import Parser, add_flags, flag, read, run, wrong
from train.benchmark import growth, operators, quality, works
from train.benchmark.clock import Row, Work, device_name, matrix_peak, measure
from train.config import PRESETS, Config
from train.data import load_data
from train.evaluate.results import markdown, read_rows, write_rows
from unet import Judge, load
from unet.device import autocast_dtype, choose_device

KEY = ("preset", "threads", "work", "steps", "width")  # rows that have these alike are replaced
WORKS = ("training", "sampling", "guidance", "operators", "growth", "quality")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of `python -m train.benchmark`."""

    work: tuple[str, ...] = flag(
        text="training and sampling beside the peers (extra bench), guidance, where a step's time "
        "goes (operators), growth, quality",
        choices=WORKS,
        positional=True,
    )
    preset: str = flag("mnist", "networks and images of this preset", choices=("mnist", "cifar10"))
    data_dir: str = flag("data", "where torchvision's data sets are")
    weights: str = flag("weights/mnist", "for guidance; quality's judge", metavar="DIR")
    rounds: int = flag(7, "of each contender", least=1, most=10**6)
    steps: int = flag(3, "training steps a round", least=1, most=10**6)
    n: int = flag(16, "samples a round", least=1, most=10**6)
    budget: int = flag(5000, "quality: training steps in all", least=1, most=10**6)
    looks: int = flag(10, "quality: how often it is judged", least=1, most=10**6)
    width: int = flag(0, "quality: channels of ε_θ (0: the preset's)", least=0, most=4096)
    threads: int = flag(0, "of the CPU (0: as torch finds best)", least=0, most=1024)
    device: str = flag("auto", "auto, cpu, cuda, mps")
    eager: bool = flag(False, "leave out the compiled contender")
    out: str = flag("runs/results", "of the CSV files", metavar="DIR")


def parser() -> Parser:
    """The command line."""
    p = Parser(
        prog="python -m train.benchmark",
        description="How fast: training and sampling beside diffusers and lucidrains at equal "
        "FLOPs, our guidances beside each other, where the time goes, growth with each size, and "
        "time to quality.",
    )
    add_flags(p, Flags)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    given = vars(parser().parse_args(arguments))
    return run("python -m train.benchmark", lambda: benchmark(read(Flags, given)))


def benchmark(flags: Flags) -> int:
    """Do the works that were asked for; rows go to the CSV files, tables to the screen."""
    if flags.looks > flags.budget:
        wrong(flags, "looks", f"at most --budget = {flags.budget}")
    device = choose_device(flags.device)
    if flags.threads:
        torch.set_num_threads(flags.threads)
    data, config = load_data(flags.preset, flags.data_dir).to(device), PRESETS[flags.preset]
    dtype = autocast_dtype("auto", device) or torch.float32
    peak, threads = matrix_peak(device, dtype), torch.get_num_threads()
    print(
        f"{device_name(device)}, {threads} threads, torch {torch.__version__}; "
        f"matrix product in {str(dtype).removeprefix('torch.')}: {peak / 1e9:,.0f} GFLOP/s"
    )
    common = {"preset": flags.preset, "threads": threads, "rounds": flags.rounds}
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    keep = functools.partial(_keep, Path(flags.out), slug)
    timed = functools.partial(_timed, {**common, "peak_GFLOPs_per_s": peak / 1e9}, device)
    plain = dataclasses.replace(config, compile="off")
    groups: dict[str, dict[str, Work]] = {}
    if {"training", "sampling"} & set(flags.work):
        contenders = works.contenders(data, plain, compiled=not flags.eager)
        if "training" in flags.work:
            groups["training"] = works.training(contenders, flags.steps, config.batch_size)
        if "sampling" in flags.work:
            groups["sampling"] = works.sampling(contenders, flags.n)
    if "guidance" in flags.work:
        groups["guidance"] = works.guidance(flags.weights, flags.n, device)
    if groups:
        keep("benchmark", timed(groups, flags.rounds), works.table)
    if "operators" in flags.work:
        steps = operators.works(data, plain, flags.n)
        rows = operators.measure(steps, flags.rounds, device, peak)
        keep("operators", [{**common, **row} for row in rows], operators.table)
    if "growth" in flags.work:
        keep("growth", timed(growth.works(data, plain), flags.rounds), growth.table)
    if "quality" in flags.work:
        judge, _ = load(Path(flags.weights) / "judge.safetensors")
        if not isinstance(judge, Judge):
            raise ValueError(f"--weights {flags.weights}: its judge.safetensors holds no judge")
        short: Config = dataclasses.replace(
            config,
            steps=flags.budget,
            sample_every=-(-flags.budget // flags.looks),
            width=flags.width or config.width,
            **quality.IN_A_HURRY,
        )
        keep("quality", quality.measure(data, short, judge.to(device)), quality.table)
    return 0


def _timed(
    common: Row, device: torch.device, groups: dict[str, dict[str, Work]], rounds: int
) -> list[Row]:
    rows = (measure(works, rounds, device, text) for text, works in groups.items())
    return [{**common, **row} for group in rows for row in group]


def _keep(
    out: Path,
    slug: str,
    file: str,
    rows: list[Row],
    show: Callable[[pd.DataFrame], pd.DataFrame],
) -> None:
    """The rows in the place of those that were measured before, and their table."""
    path, new = out / f"{file}-{slug}.csv", pd.DataFrame(rows)
    old, key = read_rows(path), [k for k in KEY if k in new]
    if len(old):
        measured = pd.MultiIndex.from_frame(new[key])
        old = old[~pd.MultiIndex.from_frame(old[key]).isin(measured)]
    write_rows(path, pd.concat([old, new]) if len(old) else new)
    print(markdown(show(new)))
    print(path)


if __name__ == "__main__":
    sys.exit(main())
