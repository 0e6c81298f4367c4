"""Runs so small that they cost nothing, and what several tests ask of them."""

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from train.__main__ import main as command
from train.config import Config
from train.data import Dataset
from train.training import Loss

FLAGS = """
    --width 8 --blocks 1 --batch-size 8 --steps 12 --classifier-steps 4 --warmup 2 --T 60
    --judge-steps 5 --judge-width 4 --sampling-steps 3 --log-every 3 --sample-every 5 --device cpu
""".split()  # noqa: SIM905


def train(*flags: object, shown: bool = False) -> int:
    """`python -m train` with a tiny network; later flags win. `main` says what shown is."""
    return main([*FLAGS, *map(str, flags)], shown=shown)


def main(arguments: list[str], *, shown: bool = False) -> int:
    """`python -m train`; shown: with its pictures and the judge's number.

    They take three quarters of a tiny run, and change neither its weights nor its states.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not shown:
            patch.setattr("train.report.progress", lambda *_: None)
            patch.setattr("train.outcome.show", lambda *_: None)
        return command(arguments)


def unrendered(patch: pytest.MonkeyPatch) -> None:
    """Figures are made and saved as ever, but for their rendering: of rows that had it before."""
    patch.setattr("matplotlib.figure.Figure.savefig", lambda _, path: path.write_bytes(b"drawn"))


def log(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[tuple[object, object, object]]:
    return [(e["phase"], e["step"], e["loss"]) for e in log(run) if "loss" in e]


def files(run: Path) -> set[str]:
    return {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}


def rate(n: int, steps: int, lr: float, warmup: int = 2) -> float:
    """The learning rate of the n-th step: a linear warm-up, then the cosine of SGDR's Eq. 5."""
    if n <= warmup:
        return lr * n / warmup
    return lr * (1 + math.cos(math.pi * (n - 1 - warmup) / (steps - warmup))) / 2


class Line(nn.Module):
    """y = a·x: the smallest model."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * x


def line_data() -> Dataset:
    images = torch.arange(0, 17, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.arange(17)
    return Dataset("line", images, labels, images, labels, [str(k) for k in range(17)], levels=17)


def line_loss(model: nn.Module, x: torch.Tensor, *_: object) -> torch.Tensor:
    return (model(x) - 3 * x).square().mean()


def line_config(**changes: object) -> Config:
    small = {"batch_size": 4, "log_every": 4, "sample_every": 4, "warmup": 2, "lr": 0.1}
    return Config(**{**small, **changes})


def at_call(n: int, event: object, loss: Loss = line_loss) -> Loss:
    """The loss, with event(value) in the place of its value in the n-th call."""
    calls = 0

    def changed(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        value = loss(*arguments)
        return event(value) if calls == n else value

    return changed


def ctrl_c(value: torch.Tensor) -> torch.Tensor:
    os.kill(os.getpid(), signal.SIGINT)
    return value
