"""How many threads a run computes with, and whether that is still a good number."""

import copy
import dataclasses
import math
import os
import time
from typing import Any

import torch
from torch import nn

from train import ranks
from train.config import Config
from train.data import Dataset
from train.training import Loss, Training

SECONDS = 1.0  # for each number of threads
SLOW, PATIENCE = 3.0, 30.0  # so many times the best step, for so many seconds


def settle(config: Config, model: nn.Module, loss: Loss, data: Dataset) -> Config:
    """Set the number of threads; the configuration that comes back names it, for --resume.

    "auto" takes the one with which a step on a copy of the model is fastest now: all cores where
    they are free, one beside other programs. It tries nothing, and leaves torch's own number,
    where OMP_NUM_THREADS has been set, and on GPUs and under torchrun, where "auto" stays.
    """
    if config.threads != "auto":
        torch.set_num_threads(int(config.threads))
        return config
    if data.images.device.type != "cpu" or ranks.launched():
        return config
    threads = torch.get_num_threads()
    if threads > 1 and "OMP_NUM_THREADS" not in os.environ:
        speeds = probe(config, model, loss, data, candidates(threads))
        threads = max(speeds, key=lambda n: speeds[n])
        tried = ", ".join(f"{n}: {speed:.3g}" for n, speed in speeds.items())
        print(f"threads: {threads}, by images/s with each number ({tried})")
        torch.set_num_threads(threads)
    return dataclasses.replace(config, threads=str(threads))


def candidates(most: int) -> list[int]:
    """1, 2, 4, … and `most` itself."""
    return [*(2**k for k in range((most - 1).bit_length())), most]


def probe(
    config: Config, model: nn.Module, loss: Loss, data: Dataset, numbers: list[int]
) -> dict[int, float]:
    """Images a second with each number of threads, in turns, so that a load hits all alike.

    Nothing of the run changes: not the model, nor the stream that dropout draws from.
    """
    before = torch.get_num_threads()
    seconds, steps = dict.fromkeys(numbers, 0.0), dict.fromkeys(numbers, 0)
    with torch.random.fork_rng(devices=[]):
        plain = dataclasses.replace(config, compile="off")
        training = Training[Any](copy.deepcopy(model), plain, data.images.device, config.steps)
        torch.set_num_threads(1)  # which is never very slow
        training.update(loss, data)  # the first one imports and allocates
        while min(seconds.values()) < SECONDS:
            for n in [n for n in numbers if seconds[n] < SECONDS]:
                torch.set_num_threads(n)
                begin, end = time.perf_counter(), 0.0
                while end - begin < SECONDS / 4:
                    training.update(loss, data)
                    steps[n], end = steps[n] + 1, time.perf_counter()
                seconds[n] += end - begin
    torch.set_num_threads(before)
    return {n: steps[n] * config.batch_size / seconds[n] for n in numbers}


class Pace:
    """Whether steps have come to take three times as long as they did at their best."""

    def __init__(self, step: int) -> None:
        self._best, self._slow, self._said = math.inf, 0.0, False
        self.begin(step)

    def begin(self, step: int) -> None:
        """Time is counted from here, and has not been since the last look."""
        self._step, self._time = step, time.perf_counter()

    def has_dropped(self, step: int) -> bool:
        """True once: when every look of half a minute has found steps that slow."""
        seconds = time.perf_counter() - self._time
        each = seconds / (step - self._step)
        self._best = min(self._best, each)
        self._slow = self._slow + seconds if each > SLOW * self._best else 0.0
        now = self._slow >= PATIENCE and not self._said
        self._said = self._said or now
        return now
