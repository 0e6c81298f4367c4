"""The state from which a run goes on as if it had never stopped."""

import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from train import ranks
from train.training import Training
from unet.files import replacing

STREAMS = ("generator", "dropout", "total")  # of the state, what each rank has for itself


def save_state(path: Path, training: Training[Any]) -> None:
    """Write all that the next step depends on; the state before it is kept beside it.

    Every rank takes part and rank 0 writes. OSError, with the states that were there left as they
    were, if it can't be written.
    """
    state = training.state_dict()
    streams = ranks.gather({name: state[name] for name in STREAMS})
    if not streams:
        return
    try:
        with replacing(path, keep=_previous(path)) as partial, open(partial, "wb") as file:
            try:
                torch.save({**state, "others": streams[1:]}, file)
            except RuntimeError as error:  # torch wraps what a full disk says
                raise OSError(str(error).splitlines()[0]) from error
    except OSError as error:
        kept = next((p for p in (path, _previous(path)) if p.exists()), None)
        kept_as = f"{kept} is as it was" if kept else "there is none before it"
        raise OSError(f"the state {error}; {kept_as}") from error


def saved_states(path: Path) -> list[Path]:
    """What there is to go on from, the newest first."""
    return [p for p in (path, _previous(path)) if os.path.lexists(p)]  # a broken link is a state


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def load_state(path: Path, training: Training[Any], seed: int) -> None:
    """Put the newest whole state back. Where that is not the newest file, it is said.

    On another kind of device, or with another number of ranks, the generators can't go on: they
    are seeded anew, and that is said, too. ValueError if no state is whole.
    """
    newest, *older = saved_states(path)
    try:
        _load(newest, training, seed)
    except ValueError as error:
        if not older:
            raise
        _load(older[0], training, seed)
        print(f"{error}; going on from {older[0]}, at step {training.step}", file=sys.stderr)


def _load(path: Path, training: Training[Any], seed: int) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange pickles; what is wrong is said below
            state = torch.load(path, map_location="cpu", weights_only=True)
            streams = [{name: s[name] for name in STREAMS} for s in (state, *state.pop("others"))]
        change = ""
        if state["device"] != training.device.type:
            change = f"on {state['device']}: on {training.device.type}"
        elif len(streams) != ranks.world():
            change = f"by {len(streams)} processes: by {ranks.world()}"
        if change:
            del state["generator"]
            state["total"] = torch.stack([stream["total"] for stream in streams]).mean(0)
        else:
            state |= streams[ranks.rank()]
        training.load_state_dict(state)
        _check(training, state["device"])
    except Exception as error:  # torch.load and unpickling raise nearly anything on a broken file
        reason = f"{' '.join(str(error).split()) or type(error).__name__:.300}"
        if isinstance(error, pickle.UnpicklingError):  # torch advises to load it all the same
            reason = "it is broken, or holds more than tensors and plain numbers"
        raise ValueError(f"the state {path} can't be taken up: {reason}") from error
    if change:
        ranks.seeded(training.generator, seed + training.step)
        print(f"{path} was saved {change} the run goes on with new random numbers", file=sys.stderr)


def _check(training: Training[Any], device: Any) -> None:
    """ValueError for what no run has written, though its names are right: it would train on."""
    for name in ("step", "count"):
        value = getattr(training, name)
        if type(value) is not int or not 0 <= value <= training.step:
            raise ValueError(f"{name} must be an integer ≥ 0, count ≤ step, got {value!r:.80}")
    if not isinstance(device, str) or training.total.shape != ():
        raise ValueError("device must be a text and total a single number")
    tensors = [("total", training.total)]
    tensors += training.model.state_dict().items()
    tensors += training.averaged.state_dict().items()
    for parameter, moments in training.optimizer.state.items():
        tensors += moments.items()
        if any(m.shape != parameter.shape for k, m in moments.items() if k != "step"):
            raise ValueError("the optimiser's averages are of other shapes than the model")
    for name, tensor in tensors:
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
