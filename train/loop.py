"""Training to the end: with a state, a log and a bar if there is a directory for them."""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch
from tqdm import tqdm

from train import ranks
from train.config import Config
from train.data import Dataset
from train.directory import append_log, go_on
from train.state import load_state, save_state, saved_states
from train.threads import Pace
from train.training import Loss, Model, Training

HANGUP = getattr(signal, "SIGHUP", None)  # not on Windows
STOP = [number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None]
ADVICE = (
    "steps have come to take three times as long: another program may have the cores. Ctrl-C, and "
    "this goes on with as many threads as are fastest now: "
)


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP came, and the state is on disk."""


class Diverged(Exception):
    """The loss is no longer finite."""


def fit(
    name: str,
    model: Model,
    loss: Loss,
    data: Dataset,
    config: Config,
    steps: int,
    look: Callable[[Model, int], None] | None = None,
    *,
    run: Path | None = None,
    keep: Callable[[Training[Model]], None] | None = None,
) -> Training[Model]:
    """Train the model for `steps` steps.

    look(averaged model, step) is called every config.sample_every steps, but not after the last.
    run: the directory of NAME.state, from which training goes on if it is there, and of log.jsonl.
    keep(training) is called on rank 0 whenever the state has been written, and at the end.
    Without one nothing is written or shown, and Ctrl-C is what it is elsewhere.
    Raises Diverged, or Interrupted once the state is on disk.
    """
    training = Training(model, config, data.images.device, steps)
    state = None if run is None else run / f"{name}.state"
    if state is not None and saved_states(state):
        load_state(state, training, config.seed)
    begin, pace = time.perf_counter(), Pace(training.step)
    with _bar(name, training, steps, hidden=run is None) as bar, _Signals(run is not None) as asked:
        while training.step < steps:
            lr = training.optimizer.param_groups[0]["lr"]  # of this step: after it, of the next
            training.update(loss, data)
            bar.update(config.batch_size)

            step, last = training.step, training.step == steps
            stop = last or asked.on_any_rank(step, training.device)
            pause = stop or step % config.sample_every == 0
            if not (pause or step % config.log_every == 0):
                continue
            mean = training.mean_loss()  # the only point at which the device is waited for
            if not math.isfinite(mean):
                kept = "" if state is None else f"; the last good state, if any, is {state}"
                raise Diverged(
                    f"the loss of {name} or its gradient is not finite before step {step} ({mean})"
                    f"{kept}. A new run with a smaller --lr or --precision float32 may help"
                )
            bar.set_postfix(loss=f"{mean:.4f}")
            if pace.has_dropped(step) and run is not None and not ranks.launched():
                bar.write(f"{ADVICE}{go_on(config, '--threads', 'auto')}", file=sys.stderr)
            if last or step % config.log_every == 0:
                if run is not None and ranks.rank() == 0:
                    line = {"phase": name, "step": step, "loss": mean, "lr": lr}
                    line["seconds"] = round(time.perf_counter() - begin, 2)
                    append_log(run / "log.jsonl", line)
                training.clear_loss()
            if pause and state is not None:
                save_state(state, training)
                if keep is not None and ranks.rank() == 0:
                    keep(training)
                if ranks.any_of(asked.to_stop):
                    raise Interrupted
            if look is not None and pause and not last and ranks.rank() == 0:
                look(training.averaged, step)
            pace.begin(step)
    if keep is not None and ranks.rank() == 0:
        keep(training)
    training.model.eval()
    return training


def _bar(name: str, training: Training[Model], steps: int, *, hidden: bool) -> "tqdm[None]":
    size = training.config.batch_size
    return tqdm(
        total=steps * size,
        initial=training.step * size,
        desc=name,
        unit="img",
        unit_scale=True,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 20,  # a log file needs no moving bar
        smoothing=0.05,
        disable=hidden or training.step >= steps,
    )


class _Signals:
    """Ctrl-C, SIGTERM and SIGHUP stop the loop after the step at hand; a second one at once.

    Under torchrun it does not: the second comes from torchrun itself, which waits for 30 s.
    """

    def __init__(self, heard: bool) -> None:
        self.to_stop = False
        self._heard, self._old = heard, contextlib.ExitStack()
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def on_any_rank(self, step: int, device: torch.device) -> bool:
        """Whether a signal came. GPUs, a step ahead of Python, ask at each tenth only."""
        asks = ranks.world() == 1 or device.type == "cpu" or step % 10 == 0
        return asks and ranks.any_of(self.to_stop)

    def __enter__(self) -> "_Signals":
        # in another thread it is for whoever runs us there to handle signals
        main = threading.current_thread() is threading.main_thread()
        for number in STOP if self._heard and main else ():
            if signal.getsignal(number) is signal.SIG_IGN:  # nohup's SIGHUP
                continue
            self._old.callback(signal.signal, number, signal.signal(number, self._handle))
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.to_stop and not ranks.launched():
            raise KeyboardInterrupt
        self.to_stop = True
        if number == HANGUP:  # the terminal is gone: what is written to it would be an error
            for stream in self._terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)

    def __exit__(self, *_: object) -> None:
        if not (self.to_stop and ranks.launched()):
            self._old.close()
