"""Time to quality: training from scratch until the judge recognises what was asked for."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm import Schedule
from guidance.models import Models
from guidance.sampling import Request, Sampler, draw
from train import objectives
from train.benchmark.clock import duration
from train.benchmark.peers import our_unet
from train.config import Config
from train.data import Dataset
from train.experiments.results import Row
from train.hardware import autocast_dtype
from train.judge import accuracy
from train.loop import train_step, training_parts
from unet import Judge

# At equal images small batches are ahead in the first minutes: 83 % against 62 % after 43,000.
IN_A_HURRY: dict[str, Any] = {"batch_size": 32, "ema": 0.995}
SAMPLES, STEPS = 500, 20  # of each look: so many images at w = 1 in so many DDIM steps


def measure(data: Dataset, config: Config, judge: Judge, looks: int) -> list[Row]:
    """Train ε_θ for config.steps steps; have the judge look at its average `looks` times meanwhile.

    The seconds are those of training alone, its first steps and the compiler's included.
    """
    device = data.images.device
    torch.manual_seed(config.seed)
    schedule = Schedule.from_info({"name": config.schedule, "T": config.T})
    parts = training_parts(our_unet(data, config), config, device, config.steps)
    generator = torch.Generator(device).manual_seed(config.seed)
    step_once = train_step(objectives.unet_loss(schedule, config), data, config, parts, generator)
    averaged = parts["ema"].module.eval()
    models = Models(averaged, None, schedule, data.classes, {})
    c = torch.arange(len(data.classes)).repeat_interleave(SAMPLES // len(data.classes))
    dtype = autocast_dtype(config.precision, device)
    request, sampler = Request("classifier-free", 0, w=1.0), Sampler(steps=STEPS)
    ends = [config.steps * (look + 1) // looks for look in range(looks)]
    losses: list[Tensor] = []
    rows: list[Row] = []
    step, seconds = 0, 0.0

    def train(n: int) -> None:
        losses.extend(step_once() for _ in range(n))

    for end in tqdm(ends, desc="quality", unit="look", disable=None, leave=False):
        losses.clear()
        seconds += duration(partial(train, end - step), device)
        step = end
        x = draw(models, request, sampler, c, seed=1, dtype=dtype)
        rows.append(
            {
                "preset": config.preset,
                "threads": torch.get_num_threads(),
                "steps": config.steps,
                "batch_size": config.batch_size,
                "ema": config.ema,
                "step": step,
                "images": step * config.batch_size,
                "seconds": seconds,
                "loss": float(torch.stack(losses).mean()),
                "class_accuracy": accuracy(judge, x, c),
                "n": len(c),
            }
        )
    return rows


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each look: minutes of training, and what the judge recognised after them."""
    head = ["step", "of", "images", "minutes of training", "loss, since the last look", "accuracy"]
    body = [
        [
            str(r["step"]),
            str(r["steps"]),
            f"{r['images']:,}",
            f"{float(r['seconds']) / 60:.1f}",
            f"{r['loss']:.4f}",
            f"{100 * float(r['class_accuracy']):.1f} %",
        ]
        for r in rows
    ]
    return [head, *body]
