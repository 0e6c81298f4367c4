"""What one step of training changes, for ε_θ, p_φ and the judge alike: DDPM Alg. 1, CFG Alg. 1."""

import copy
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from train import ranks
from train.config import Config
from train.data import Dataset
from unet.device import autocast_dtype, compile_network, memory_format

Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[Any, Tensor, Tensor, torch.Generator], Tensor]
"""loss(model, x_0, c, generator) -> scalar."""


class Training(Generic[Model]):
    """The model, its average, optimiser and learning rate, the generator, the running loss.

    `total` is the sum of the losses of the last `count` steps, on the device. With several ranks
    each takes its part of the batch, and the gradient is the mean over them.
    """

    def __init__(self, model: Model, config: Config, device: torch.device, steps: int) -> None:
        model.to(device).to(memory_format=memory_format(device)).train()
        self.model, self.config, self.device = model, config, device
        self.averaged = copy.deepcopy(model).eval()
        compile_network(model, config.compile, device)  # not the average, which draws pictures
        self.network = ranks.parallel(model)
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self._rate: Callable[[int], float] = lambda n: learning_rate(n, steps, config.warmup)
        self.scheduler = LambdaLR(self.optimizer, self._rate)
        self.generator = ranks.seeded(torch.Generator(device), config.seed)
        self.dtype = autocast_dtype(config.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.batch_size = ranks.part_of(config.batch_size, config.accumulate)
        self.step, self.count, self.total = 0, 0, torch.zeros((), device=device)

    def update(self, loss: Loss, data: Dataset) -> Tensor:
        """One step. Returns its loss, a scalar on the device, not finite if the gradient is not."""
        x_0, c = data.batch(self.batch_size, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        value, parts = torch.zeros((), device=self.device), self.config.accumulate
        for x, y in zip(x_0.chunk(parts), c.chunk(parts), strict=True):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                part = loss(self.network, x, y, self.generator) / parts
            self.scaler.scale(part).backward()
            value = value + part.detach()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self._average()
        if not self.scaler.is_enabled():  # which skips the steps whose gradient is not finite
            value = value + 0 * norm
        self.total += value
        self.step, self.count = self.step + 1, self.count + 1
        return value

    def mean_loss(self) -> float:
        """The mean of the running loss over steps and ranks: device and ranks are waited for.

        NaN if float16's scale has been halved and halved in vain: no gradient is finite.
        """
        stuck = self.scaler.is_enabled() and self.scaler.get_scale() < 1
        return ranks.mean(math.nan if stuck else self.total.item() / self.count)

    def clear_loss(self) -> None:
        """Begin the running loss anew."""
        self.count = 0
        self.total.zero_()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step of this rank depends on."""
        return {
            **{name: getattr(self, name).state_dict() for name in PARTS},
            "step": self.step,
            "count": self.count,
            "total": self.total.cpu(),
            "device": self.device.type,
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": _random_module(self.device).get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Without "generator" in the state the streams of now stay."""
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.step, self.count = state["step"], state["count"]
        self.total = state["total"].to(self.device)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        for group in self.optimizer.param_groups:  # of a run that has got more steps it is another
            group["lr"] = self.config.lr * self._rate(self.step)
        if "generator" in state:
            self.generator.set_state(state["generator"])
            _random_module(self.device).set_rng_state(state["dropout"])

    def _average(self) -> None:
        """The moving average (EMA) of the weights, whose decay rises as (1 + n)/(10 + n) up to ema.

        n is the host's own count: AveragedModel keeps its on the device and waits for it.
        """
        n = self.step
        decay = min(self.config.ema, (1 + n) / (10 + n)) if n else 0.0
        averaged, current = list(self.averaged.parameters()), list(self.model.parameters())
        get_ema_multi_avg_fn(decay)(averaged, current, n)
        for kept, buffer in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            kept.copy_(buffer)


PARTS = ("model", "averaged", "optimizer", "scheduler")


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Fraction of the full learning rate: a linear warm-up, then a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _random_module(device: torch.device) -> Any:
    """Where the stream lives that dropout draws from; all else draws from our own generator."""
    return {"cuda": torch.cuda, "mps": torch.mps}.get(device.type, torch.random)
