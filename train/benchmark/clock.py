"""Interleaved timing: A B C A B C …, so that what else the machine does hits all alike."""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

Row = dict[str, Any]


class Work(NamedTuple):
    """What is timed: a call, and what it gets done."""

    call: Callable[[], Any]
    images: int
    flops: float = 0.0  # for an image; 0: not counted
    parameters: int = 0


def measure(works: dict[str, Work], rounds: int, device: torch.device, text: str) -> list[Row]:
    """A row for each work: images a second, the range over the rounds, and what follows from it.

    "ratio" is the time of an image against the first work's, by the median of the rounds' ratios,
    and for an equal number of FLOPs where they are counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    memory: dict[str, int] = {}
    with tqdm(total=(rounds + 1) * len(works), desc=text, leave=False, disable=None) as bar:
        for round_ in range(rounds + 1):  # the first warms up
            for name, work in works.items():
                with _silent():  # a peer has a bar of its own, and the profiler its say
                    if round_ == 0:
                        work.call()
                        memory[name] = peak_memory(work.call, device)
                    else:
                        seconds[name].append(duration(work.call, device))
                bar.update()
    first = next(iter(works))
    costs = {
        k: [s / works[k].images / (works[k].flops or 1) for s in v] for k, v in seconds.items()
    }
    return [
        {
            "work": text,
            "name": name,
            "images_per_s": work.images / statistics.median(seconds[name]),
            "lowest": work.images / max(seconds[name]),
            "highest": work.images / min(seconds[name]),
            "ratio": statistics.median(
                b / a for a, b in zip(costs[first], costs[name], strict=True)
            ),
            "MFLOPs": work.flops / 1e6,
            "parameters": work.parameters,
            "GFLOPs_per_s": work.flops * work.images / statistics.median(seconds[name]) / 1e9,
            "memory_MB": memory[name] / 1e6,
        }
        for name, work in works.items()
    ]


def duration(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds that the call takes, until the device has done its work."""
    _wait(device)
    begin = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - begin


def peak_memory(call: Callable[[], Any], device: torch.device) -> int:
    """Bytes of tensors that the call holds at once, beyond those that were there before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    assert recorded.profiler is not None
    # Not public, but the public list of the same events takes twenty times as long as the call.
    events = recorded.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product in the type that the work runs in, the best of several."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device).to(dtype)
    return 2 * n**3 / min(duration(lambda: a @ a, device) for _ in range(10))


def device_name(device: torch.device) -> str:
    """The accelerator's name; just "cpu" for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing goes to stderr, not even from C++."""
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


def _wait(device: torch.device) -> None:
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
