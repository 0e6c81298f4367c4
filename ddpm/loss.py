"""L_simple: what ε_θ is trained with. DDPM Eq. 14, Alg. 1."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm.checked import checked
from ddpm.checks import Images
from ddpm.forward import noise_like, q_sample
from ddpm.schedule import Schedule

Predictor = Callable[[Tensor, Tensor], Tensor]
"""A noise predictor: eps(x_t, t) -> ε̂, with x_t (B, ...) and t (B,) int64 in 1..T."""


@checked
def simple_loss(
    schedule: Schedule,
    eps: Predictor,
    x_0: Images,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """L_simple = E_{t, x_0, ε} ‖ε − ε_θ(√ᾱ_t·x_0 + √(1 − ᾱ_t)·ε, t)‖²,  t ~ U{1, …, T}

    DDPM Eq. 14, Alg. 1; CFG Eq. 5. As a mean over the batch and over the dimensions of an image: an
    untrained network that answers 0 has loss 1. One t and one ε per image.
    x_0: (B, ...) in [-1, 1], B ≥ 1. Returns a scalar, float32 at least.
    """
    device = x_0.device if generator is None else generator.device
    t = torch.randint(1, schedule.T + 1, (len(x_0),), generator=generator, device=device)
    t = t.to(x_0.device)  # (B,)
    noise = noise_like(x_0, generator)  # (B, ...)
    return squared_error(noise, eps(q_sample(schedule, x_0, t, noise), t))


@checked
def squared_error(noise: Images, eps: Images) -> Tensor:
    """‖ε − ε̂‖² as a mean, float32 at least: where half precision would lose it."""
    error = noise - eps
    return error.to(torch.promote_types(error.dtype, torch.float32)).square().mean()
