"""What the networks look at: their architecture before it is built, and their inputs' shapes."""

from typing import Any

import torch
from torch import Tensor

# More can only be a mistake, or a file that wants to fill the memory of whoever opens it.
MOST = {"size": 4096, "channels": 1024, "classes": 1_000_000, "width": 4096, "blocks": 32}
MOST |= {"multipliers": 64, "attention": 4096}
LEVELS = 8


def architecture(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The network's name and what it is built from, its locals(), as plain data.

    ValueError that names the argument that is out of range.
    """
    found = {key: value for key, value in arguments.items() if key in MOST or key == "dropout"}
    for key, value in found.items():
        if key == "dropout":
            allowed, right = "a number in [0, 1)", type(value) in (int, float) and 0 <= value < 1
        elif key in ("multipliers", "attention"):
            allowed = f"at most {LEVELS} integers in 1..{MOST[key]}"
            right = isinstance(value, (list, tuple)) and len(value) <= LEVELS
            right = right and all(type(v) is int and 1 <= v <= MOST[key] for v in value)
        else:
            allowed = f"an integer in 1..{MOST[key]}"
            right = type(value) is int and 1 <= value <= MOST[key]
        if not right:
            raise ValueError(f"{key} must be {allowed}, got {value!r:.80}")
    lists = {key: list(value) for key, value in found.items() if isinstance(value, (list, tuple))}
    return {"name": name, **found, **lists}


def check_images(x_t: Tensor, architecture: dict[str, Any]) -> None:
    """ValueError unless x_t is (B, channels, size, size): a convolution takes any size."""
    channels, size = architecture["channels"], architecture["size"]
    if not isinstance(x_t, Tensor):
        raise TypeError(f"x_t must be a tensor, got {type(x_t).__name__}")
    if x_t.ndim != 4 or x_t.shape[1:] != (channels, size, size) or not x_t.is_floating_point():
        raise ValueError(f"x_t must be a float batch (B, {channels}, {size}, {size}), "
                         f"got {tuple(x_t.shape)} of {x_t.dtype}")  # fmt: skip


def check_integers(name: str, value: Tensor, x_t: Tensor, most: int | None = None) -> None:
    """ValueError unless value holds an integer for each image, in 0..most where that is given."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.shape != (len(x_t),) or value.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must hold one integer per image, ({len(x_t)},), "
                         f"got {tuple(value.shape)} of {value.dtype}")  # fmt: skip
    if most is None or value.device.type != "cpu" or torch.compiler.is_compiling():
        return  # on an accelerator the look would stall the queue, and a compiler can't look
    if len(value) and not 0 <= int(value.min()) <= int(value.max()) <= most:
        raise ValueError(f"{name} must lie in 0..{most} ({most} is ∅), "
                         f"got {int(value.min())}..{int(value.max())}")  # fmt: skip
