"""What the guidances share: a look at their arguments, and two predictions in one batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddpm.schedule import integer

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)
ConditionalPredictor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""eps(x_t, t, c) -> ε̂, with x_t (B, ...), t (B,) int64, c (B,) int64 in 0..K and K = ∅."""


def pair(
    eps: ConditionalPredictor, x_t: Tensor, t: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor]:
    """ε(x_t, first) and ε(x_t, second) by one pass through the network: a batch of 2B."""
    both = eps(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([first, second]))
    eps_first, eps_second = both.chunk(2)  # (B, ...), (B, ...)
    return eps_first, eps_second


def check_number(name: str, value: float | Tensor, convention: str) -> float | Tensor:
    """A finite number as it is, several as a (B,) tensor. ValueError if it is neither."""
    tensor = _tensor(value)
    if tensor.ndim > 1 or tensor.is_complex() or not bool(torch.isfinite(tensor).all()):
        raise ValueError(
            f"{name} must be a finite number, or one for each image ({convention}), got {value!r}"
        )
    return tensor if tensor.ndim else float(value)


def _tensor(value: Any) -> Tensor:
    """value as a tensor; one NaN where it can't be one, or has no values to look at."""
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return torch.tensor(torch.nan)
    return torch.tensor(torch.nan) if tensor.is_meta else tensor


def check_labels(name: str, c: int | Tensor, null: int) -> Tensor:
    """c as a tensor, () or (B,). ValueError unless every label lies in 0..null, null being ∅."""
    check_null(null)
    labels = _tensor(c)
    if labels.ndim > 1 or labels.dtype not in INTEGERS:
        raise ValueError(f"{name} must be a class or one class per image (B,), got {c}")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= null:
        raise ValueError(f"{name} must lie in 0..{null} ({null} is ∅), got {c}")
    return labels.long()


def check_null(null: int) -> None:
    """ValueError unless null can be K."""
    count = integer(null)
    if count is None or not 1 <= count <= 1_000_000:
        raise ValueError(f"null must be K, the number of classes and the token of ∅, got {null!r}")


def per_image(name: str, value: float | Tensor, x_t: Tensor) -> Tensor:
    """value as (B,) on x_t's device. ValueError if it is neither one number nor one per image."""
    tensor = torch.as_tensor(value)
    if tensor.is_floating_point():
        tensor = tensor.to(x_t.dtype)  # before it moves: not every device knows float64
    tensor = tensor.to(x_t.device, non_blocking=True)
    if tensor.shape not in ((), (len(x_t),)):
        raise ValueError(
            f"{name} must be one number or one per image, ({len(x_t)},), got {tuple(tensor.shape)}"
        )
    return tensor.expand(len(x_t))


def factor(name: str, value: float | Tensor, x_t: Tensor) -> float | Tensor:
    """value, ready to multiply x_t: a number stays one, (B,) becomes (B, 1, ...) of x_t's type."""
    if not isinstance(value, Tensor):
        return value
    return per_image(name, value, x_t).to(x_t.dtype).view(-1, *[1] * (x_t.ndim - 1))
