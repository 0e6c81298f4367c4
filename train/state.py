"""The full training state on disk, from which a run goes on as if it had never stopped."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save_state(
    path: Path, parts: dict[str, Any], generator: torch.Generator, step: int, total: Tensor
) -> None:
    """Write all that the next step depends on; the old state goes once the new one is whole."""
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"step": step, "total": total, "generator": generator.get_state()}
    state["random"] = torch.get_rng_state()  # dropout draws from the global generators
    if torch.cuda.is_available():
        state["random_cuda"] = torch.cuda.get_rng_state()
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_state(
    path: Path, parts: dict[str, Any], generator: torch.Generator, device: torch.device
) -> tuple[int, Tensor]:
    """Put a saved state back into parts and generators. Returns the step and the running loss."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"])
        return state["step"], state["total"].to(device)
    except Exception as error:  # torch.load and unpickling raise nearly anything on a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the state {path} can't be taken up: {reason}") from error
