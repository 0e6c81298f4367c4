"""The training loop, for ε_θ and p_φ alike: DDPM Alg. 1, CFG Alg. 1."""

import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from train import launch, ranks
from train.config import Config
from train.data import Dataset
from train.hardware import autocast_dtype, compile_network, memory_format
from train.state import append_log, load_state, save_state, saved_states

Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[Any, Tensor, Tensor, torch.Generator], Tensor]
"""loss(model, x_0, c, generator) -> scalar."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM came, and the state is on disk."""


class Diverged(Exception):
    """The loss is no longer finite."""


def fit(
    name: str,
    model: Model,
    loss: Loss,
    data: Dataset,
    config: Config,
    steps: int,
    picture: Callable[[Model, int], None] | None = None,
) -> tuple[Model, Model]:
    """Train model for `steps` steps; the state lives in RUN/NAME.state and is taken up from there.

    picture(model, step) is called with the averaged weights every config.sample_every steps.
    Returns the model with the averaged (EMA) weights and the one with the raw weights.
    Raises Interrupted or Diverged.
    """
    run, device = Path(config.run), data.images.device
    parts = training_parts(model, config, device, steps)
    averaged, scheduler = cast(Model, parts["ema"].module), parts["scheduler"]
    generator = ranks.seeded(torch.Generator(device), config.seed)
    state_file = run / f"{name}.state"
    # total is the sum of the losses of `count` steps, since the last line of the log
    step, count, total = 0, 0, torch.zeros((), device=device)
    if saved_states(state_file):
        step, count, total = load_state(state_file, parts, generator, device, config.seed)
    step_once = train_step(loss, data, config, parts, generator)

    bar = tqdm(
        total=steps * config.batch_size,
        initial=step * config.batch_size,
        desc=name,
        unit="img",
        unit_scale=True,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 20,  # a log file needs no moving bar
        smoothing=0.05,
        disable=step >= steps,
    )
    start = time.perf_counter()
    with bar, _Signals() as signals:
        while step < steps:
            total += step_once()
            step, count = step + 1, count + 1
            bar.update(config.batch_size)

            stop = step == steps or ranks.told_to_stop(signals.came, step, device)
            if step % config.log_every == 0 or step % config.sample_every == 0 or stop:
                # the only point at which the device, and other ranks on GPUs, are waited for
                mean = ranks.mean(total.item() / count)
                if not math.isfinite(mean):
                    raise Diverged(
                        f"the loss of {name} or its gradient is not finite before step {step} "
                        f"({mean}); the last good state, if any, is {state_file}. A new run with a "
                        "smaller --lr or --precision float32 may help"
                    )
                bar.set_postfix(loss=f"{mean:.4f}")
                if step % config.log_every == 0 or step == steps:
                    line = {"phase": name, "step": step, "loss": mean}
                    line["lr"] = scheduler.get_last_lr()[0]
                    line["seconds"] = round(time.perf_counter() - start, 2)
                    if ranks.rank() == 0:
                        append_log(run / "log.jsonl", line)
                    total.zero_()
                    count = 0
            if step % config.sample_every == 0 or stop:
                save_state(state_file, parts, generator, step, count, total)
                if ranks.any_of(signals.came):
                    raise Interrupted
                if picture is not None and step < steps and ranks.rank() == 0:
                    picture(averaged, step)
    return averaged.eval(), model.eval()


def training_parts(
    model: nn.Module, config: Config, device: torch.device, steps: int
) -> dict[str, Any]:
    """What a step changes: the model, its average, the optimiser and the learning rate."""
    model.to(device).to(memory_format=memory_format(device)).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.lr,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    scheduler = LambdaLR(optimizer, lambda step: learning_rate(step, steps, config.warmup))
    ema = AveragedModel(model, multi_avg_fn=_ema(config.ema))
    compile_network(model, config.compile, device)  # after the copy, which only draws pictures
    return {"model": model, "ema": ema, "optimizer": optimizer, "scheduler": scheduler}


def train_step(
    loss: Loss, data: Dataset, config: Config, parts: dict[str, Any], generator: torch.Generator
) -> Callable[[], Tensor]:
    """One step of training as a function: batch, loss, gradient, clip, optimiser, average.

    It gives the loss, a scalar on the device, which is not finite if the gradient is not.
    """
    model, ema, optimizer, scheduler = (
        parts[k] for k in ("model", "ema", "optimizer", "scheduler")
    )
    device = data.images.device
    dtype = autocast_dtype(config.precision, device)
    network, share = ranks.parallel(model), ranks.share(config.batch_size)

    def step() -> Tensor:
        x_0, c = data.batch(share, generator)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            value = loss(network, x_0, c, generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        scheduler.step()
        ema.update_parameters(model)
        return value.detach() + 0 * norm

    return step


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Share of the full learning rate: a linear warm-up, then a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _ema(decay: float) -> Callable[..., None]:
    """An average that is warm from the start: its decay rises as (1 + n)/(10 + n) up to `decay`."""

    def update(averaged: Any, current: Any, n: Any) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(n)) / (10 + int(n))))(averaged, current, n)

    return update


class _Signals:
    """Ctrl-C and SIGTERM stop the loop after the step at hand; a second one stops at once.

    Under torchrun it does not: the second comes from torchrun itself, which waits for 30 s.
    """

    def __enter__(self) -> "_Signals":
        self.came = False
        self._old = {}
        for s in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[s] = signal.signal(s, self._handle)
            except ValueError:  # not in the main thread: whoever runs it there handles signals
                break
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.came and not launch.launched():
            raise KeyboardInterrupt
        self.came = True

    def __exit__(self, *_: object) -> None:
        over = self.came and launch.launched()
        for s, handler in self._old.items():
            signal.signal(s, signal.SIG_IGN if over else handler)
