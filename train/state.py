"""The full training state on disk, from which a run goes on as if it had never stopped."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save_state(
    path: Path,
    parts: dict[str, Any],
    generator: torch.Generator,
    step: int,
    count: int,
    total: Tensor,
) -> None:
    """Write all that the next step depends on; the old state goes once the new one is whole."""
    device = generator.device
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"step": step, "count": count, "total": total, "device": device.type}
    # Dropout draws from the device's own generator, the rest from ours.
    state |= {"generator": generator.get_state(), "global": _global_state(device)}
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_state(
    path: Path, parts: dict[str, Any], generator: torch.Generator, device: torch.device, seed: int
) -> tuple[int, int, Tensor]:
    """Put a saved state back into parts and generators. Returns step, count and total.

    On another kind of device the generators can't go on: they are seeded anew, and it is said.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        if state["device"] == device.type:
            generator.set_state(state["generator"])
            _set_global_state(device, state["global"])
        else:
            generator.manual_seed(seed + state["step"])
            print(
                f"{path} was saved on {state['device']}: on {device.type} the run goes on with new "
                "random numbers",
                file=sys.stderr,
            )
        return state["step"], state["count"], state["total"].to(device)
    except Exception as error:  # torch.load and unpickling raise nearly anything on a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the state {path} can't be taken up: {reason}") from error


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
