"""The full training state on disk, from which a run goes on as if it had never stopped."""

import contextlib
import json
import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train import ranks


def save_state(
    path: Path,
    parts: dict[str, Any],
    generator: torch.Generator,
    step: int,
    count: int,
    total: Tensor,
) -> None:
    """Write all that the next step depends on; the state before it is kept beside it.

    Every rank takes part and rank 0 writes.
    A state under its own name is whole: it was written under another and renamed. OSError, with
    the states that were there left as they were, if it can't be written.
    """
    device = generator.device
    # Dropout draws from the device's own generator, the rest from ours.
    own = {"generator": generator.get_state(), "global": _global_state(device)}
    streams = ranks.gather({**own, "total": total.cpu()})
    if not streams:
        return
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"step": step, "count": count, "device": device.type}
    state |= {**streams[0], "others": streams[1:]}
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, _previous(path))
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch wraps what a full disk says
        partial.unlink(missing_ok=True)
        kept = next((p for p in (path, _previous(path)) if p.exists()), None)
        raise OSError(
            f"the state {path} can't be written ({str(error).splitlines()[0]}); "
            + (f"{kept} is as it was" if kept else "there is none before it")
        ) from error


def append_log(path: Path, entry: dict[str, Any]) -> None:
    """Add a line of JSON. OSError that names the file, with no half line in it, if that fails."""
    size = path.stat().st_size if path.is_file() else 0
    try:
        with open(path, "a") as log:
            log.write(json.dumps(entry) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, size)
        raise OSError(f"the log {path} can't be written: {error}") from error


def saved_states(path: Path) -> list[Path]:
    """What there is to go on from, the newest first."""
    return [p for p in (path, _previous(path)) if os.path.lexists(p)]  # a broken link is a state


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def load_state(
    path: Path, parts: dict[str, Any], generator: torch.Generator, device: torch.device, seed: int
) -> tuple[int, int, Tensor]:
    """Put the newest whole state back into parts and generators. Returns step, count and total.

    Where that is not the newest file, it is said. On another kind of device, or with another number
    of ranks, the generators can't go on: they are seeded anew, and that is said, too. ValueError if
    no state is whole.
    """
    newest, *older = saved_states(path)
    try:
        return _load(newest, parts, generator, device, seed)
    except ValueError as error:
        if not older:
            raise
        found = _load(older[0], parts, generator, device, seed)
        print(f"{error}; going on from {older[0]}, at step {found[0]}", file=sys.stderr)
        return found


def _load(
    path: Path, parts: dict[str, Any], generator: torch.Generator, device: torch.device, seed: int
) -> tuple[int, int, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange pickles; what is wrong is said below
            state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        _check(state, parts)
        streams = [state, *state.get("others", [])]  # one for each rank
        change = ""
        if state["device"] != device.type:
            change = f"on {state['device']}: on {device.type}"
        elif len(streams) != ranks.world():
            change = f"by {len(streams)} processes: by {ranks.world()}"
        if change:
            ranks.seeded(generator, seed + state["step"])
            print(
                f"{path} was saved {change} the run goes on with new random numbers",
                file=sys.stderr,
            )
            total = torch.stack([stream["total"] for stream in streams]).mean(0)
        else:
            own = streams[ranks.rank()]
            generator.set_state(own["generator"])
            _set_global_state(device, own["global"])
            total = own["total"]
        return state["step"], state["count"], total.to(device)
    except Exception as error:  # torch.load and unpickling raise nearly anything on a broken file
        reason = f"{' '.join(str(error).split()) or type(error).__name__:.300}"
        if isinstance(error, pickle.UnpicklingError):  # torch advises to load it all the same
            reason = "it is broken, or holds more than tensors and plain numbers"
        raise ValueError(f"the state {path} can't be taken up: {reason}") from error


def _check(state: dict[str, Any], parts: dict[str, Any]) -> None:
    """ValueError for what no run has written, though its names are right: it would train on."""
    for name in ("step", "count"):
        if type(state[name]) is not int or not 0 <= state[name] <= state["step"]:
            raise ValueError(
                f"{name} must be an integer ≥ 0, count ≤ step, got {state[name]!r:.80}"
            )
    if not isinstance(state["device"], str) or state["total"].shape != ():
        raise ValueError("device must be a text and total a single number")
    tensors = [("total", state["total"])]
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            tensors += part.state_dict().items()
        elif isinstance(part, torch.optim.Optimizer):
            for parameter, moments in part.state.items():
                tensors += moments.items()
                if any(m.shape != parameter.shape for k, m in moments.items() if k != "step"):
                    raise ValueError("the optimiser's averages are of other shapes than the model")
    for name, tensor in tensors:
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")


def _global_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_global_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)
