"""How the cost of training and sampling grows with each of the things that one can turn up."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F

from train.benchmark.clock import Work
from train.benchmark.ours import ours
from train.config import Config
from train.data import Dataset

FACTORS = (0.25, 0.5, 1, 2, 4)
SAMPLES = 16


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each quantity: its values, and beside them rates and memory."""
    columns = {"images_per_s": "images/s", "GFLOPs_per_s": "GFLOP/s", "memory_MB": "MB at once"}
    digits = {"images_per_s": 3, "GFLOPs_per_s": 3, "memory_MB": 2}
    body = []
    for work, own in rows.groupby("work", sort=False):
        cells = {"what grows": str(work), "values": " · ".join(map(str, own["name"]))}
        for name, head in columns.items():
            cells[head] = " · ".join(f"{float(f'{v:.{digits[name]}g}'):g}" for v in own[name])
        body.append(cells)
    return pd.DataFrame(body)


def works(data: Dataset, config: Config) -> dict[str, dict[str, Work]]:
    """For each quantity the works of all its values: a training step, or a batch of samples."""
    most = torch.get_num_threads()
    batches = [int(f * config.batch_size) for f in FACTORS]
    widths = [int(f * config.width) for f in FACTORS[:4]]
    side, own = data.images.shape[-1], ours(data, config)
    return {
        "batch": {str(n): _training(data, config, batch_size=n) for n in batches},
        "width": {str(n): _training(data, config, width=n) for n in widths},
        "side": {
            str(n): _training(_resized(data, n), attends(config, side, n))
            for n in sides(config, side)
        },
        "threads": {
            str(n): _training(data, config, threads=n) for n in sorted({1, most // 2 or 1, most})
        },
        "sampling steps": {
            str(S): Work(functools.partial(own.sample, SAMPLES, S), SAMPLES, 2 * S * own.flops)
            for S in (10, 20, 50, 100)
        },
    }


def _training(data: Dataset, config: Config, threads: int = 0, **changes: Any) -> Work:
    config = dataclasses.replace(config, **changes)
    own = ours(data, config)
    call: Callable[[], Any] = own.step
    if threads:
        call = functools.partial(_with_threads, threads, own.step)
    return Work(call, config.batch_size, 3 * own.flops, own.parameters)


def _with_threads(threads: int, step: Callable[[], Any]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        step()
    finally:
        torch.set_num_threads(before)


def _resized(data: Dataset, side: int) -> Dataset:
    """The first thousand images with `side` pixels a side."""
    images = F.interpolate(data.images[:1000].float(), size=(side, side)).to(torch.uint8)
    return dataclasses.replace(data, images=images, labels=data.labels[:1000])


def sides(config: Config, side: int) -> list[int]:
    """About a half, one and two, in multiples of what the network can halve."""
    unit = 2 ** (len(config.multipliers) - 1)
    return [math.ceil(side / 2 / unit) * unit, side, 2 * side]


def attends(config: Config, side: int, new: int) -> Config:
    """Attention at the same levels when images of one side become images of another."""
    return dataclasses.replace(
        config, attention=tuple(new // (side // a) for a in config.attention)
    )
