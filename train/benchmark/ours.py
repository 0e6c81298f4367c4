"""What the benchmark times, and this project as the first of its contenders."""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddpm import Schedule, ddim
from guidance.app import guides
from guidance.app.draw import draw
from guidance.app.models import Models
from train.benchmark.cost import forward_flops, parameters
from train.config import Config
from train.data import Dataset
from train.objectives import unet_loss
from train.training import Training
from unet import UNet
from unet.device import autocast_dtype, compile_network, memory_format

W = 1.0  # of the guided samples


class Contender(NamedTuple):
    """What is timed: a training step of one batch, and n guided samples in 50 DDIM steps."""

    name: str
    flops: int  # of a forward pass, for each image
    parameters: int
    step: Callable[[], Any]
    sample: Callable[..., Tensor]


def ours(data: Dataset, config: Config, name: str = "this project") -> Contender:
    """This project, by the step that `python -m train` repeats."""
    device = data.images.device
    torch.manual_seed(0)
    training = Training(our_unet(data, config), config, device, 10_000)
    schedule = Schedule.from_info({"name": config.schedule, "T": config.T})
    loss = unet_loss(schedule, config)
    dtype = autocast_dtype(config.precision, device)
    network = copy.deepcopy(training.averaged)
    network.to(memory_format=memory_format(device, predicts_float32=dtype is None))
    compile_network(network, config.compile, device)
    models = Models(network, None, schedule, data.classes, {})

    def sample(n: int, S: int = 50) -> Tensor:
        c, sampler = torch.arange(n) % len(data.classes), functools.partial(ddim, steps=S)
        guide = guides.classifier_free(W)
        return draw(models, guide, c, 0, sampler=sampler, batch_size=n, dtype=dtype)

    cost = forward_flops(data, our_unet(data, config))  # of one that is not compiled
    return Contender(name, cost, parameters(network), lambda: training.update(loss, data), sample)


def our_unet(data: Dataset, config: Config) -> UNet:
    """The U-Net of a preset, on the data's device."""
    _, channels, size, _ = data.images.shape
    names = ("width", "multipliers", "blocks", "attention", "dropout")
    shape = {name: getattr(config, name) for name in names}
    return UNet(size, channels, len(data.classes), **shape).to(data.images.device)
