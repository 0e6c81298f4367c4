"""Time to quality: training from scratch until the judge recognises what was asked for."""

import time
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ddpm import Schedule, ddim
from guidance.app import guides
from guidance.app.draw import draw
from guidance.app.models import Models
from train.benchmark.clock import Row
from train.benchmark.ours import our_unet
from train.config import Config
from train.data import Dataset
from train.judge import accuracy
from train.loop import fit
from train.objectives import unet_loss
from unet import Judge, UNet
from unet.device import autocast_dtype

# At equal images small batches are ahead in the first minutes: 83 % against 62 % after 43,000.
IN_A_HURRY: dict[str, Any] = {"batch_size": 32, "ema": 0.995}
SAMPLES, STEPS = 500, 20  # of each look: so many images at w = 1 in so many DDIM steps


def measure(data: Dataset, config: Config, judge: Judge) -> list[Row]:
    """Train ε_θ for config.steps steps; every config.sample_every the judge looks at its average.

    The seconds are those of training alone, its first steps and the compiler's included.
    """
    torch.manual_seed(config.seed)
    schedule = Schedule.from_info({"name": config.schedule, "T": config.T})
    c = torch.arange(len(data.classes)).repeat_interleave(SAMPLES // len(data.classes))
    dtype = autocast_dtype(config.precision, data.images.device)
    objective, losses = unet_loss(schedule, config), list[Tensor]()
    rows: list[Row] = []
    seconds, begin = 0.0, time.perf_counter()

    def loss(*arguments: Any) -> Tensor:
        losses.append(objective(*arguments))
        return losses[-1]

    def look(network: UNet, step: int) -> None:
        nonlocal seconds, begin
        mean = float(torch.stack([value.detach() for value in losses]).mean())  # waits for it
        seconds += time.perf_counter() - begin
        models = Models(network, None, schedule, data.classes, {})
        sampler = partial(ddim, steps=STEPS)
        x = draw(models, guides.classifier_free(1.0), c, seed=1, sampler=sampler, dtype=dtype)
        rows.append(
            {
                "preset": config.preset,
                "threads": torch.get_num_threads(),
                "steps": config.steps,
                "width": config.width,
                "batch_size": config.batch_size,
                "ema": config.ema,
                "step": step,
                "images": step * config.batch_size,
                "seconds": seconds,
                "loss": mean,
                "class_accuracy": accuracy(judge, x, c),
                "n": len(c),
            }
        )
        losses.clear()
        begin = time.perf_counter()

    training = fit("unet", our_unet(data, config), loss, data, config, config.steps, look, run=None)
    look(training.averaged, config.steps)
    return rows


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each look: minutes of training, and what the judge recognised after them."""
    return pd.DataFrame(
        {
            "width": rows["width"].map(str),
            "step": rows["step"].map(str),
            "of": rows["steps"].map(str),
            "images": rows["images"].map("{:,}".format),
            "minutes of training": (rows["seconds"] / 60).map("{:.1f}".format),
            "loss, since the last look": rows["loss"].map("{:.4f}".format),
            "accuracy": (100 * rows["class_accuracy"]).map("{:.1f} %".format),
        }
    )
