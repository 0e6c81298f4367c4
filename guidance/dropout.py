"""Joint training of ε_θ(x, c) and ε_θ(x, ∅) by dropping labels. CFG (Ho & Salimans) Alg. 1."""

from typing import Annotated

import torch
from torch import Tensor

from ddpm.checked import checked
from ddpm.checks import number
from guidance.arguments import Null, look_at_vector


@checked
def drop_labels(
    c: Annotated[Tensor, look_at_vector],
    p_uncond: Annotated[float, number(0, 1)],
    *,
    null: Null,
    generator: torch.Generator | None = None,
) -> Tensor:
    """c ← ∅ with probability p_uncond, for each image on its own.

    CFG Alg. 1. c: (B,) int64; null: K, the token of ∅. Returns (B,); ValueError unless
    0 ≤ p_uncond ≤ 1.
    """
    device = c.device if generator is None else generator.device
    drop = torch.rand(c.shape, generator=generator, device=device) < p_uncond  # (B,)
    return torch.where(drop.to(c.device), null, c)
