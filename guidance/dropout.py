"""Joint training of ε_θ(x, c) and ε_θ(x, ∅) by dropping labels. CFG (Ho & Salimans) Alg. 1."""

import torch
from torch import Tensor

from ddpm.schedule import is_number
from guidance.arguments import INTEGERS, check_null


def drop_labels(
    c: Tensor, p_uncond: float, *, null: int, generator: torch.Generator | None = None
) -> Tensor:
    """c ← ∅ with probability p_uncond, for each image on its own.

    CFG Alg. 1. c: (B,) int64; null: K, the token of ∅. Returns (B,); ValueError unless
    0 ≤ p_uncond ≤ 1.
    """
    if not (is_number(p_uncond) and 0 <= p_uncond <= 1):
        raise ValueError(f"p_uncond must be a probability in [0, 1], got {p_uncond}")
    check_null(null)
    if not isinstance(c, Tensor) or c.ndim != 1 or c.dtype not in INTEGERS:
        raise TypeError("c must be a tensor (B,) of integers")
    device = c.device if generator is None else generator.device
    drop = torch.rand(c.shape, generator=generator, device=device) < p_uncond  # (B,)
    return torch.where(drop.to(c.device), null, c)
