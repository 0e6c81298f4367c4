"""Dynamic negative guidance: push no harder than the class is likely. DNG (Koulischer et al.)."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm.schedule import is_number
from guidance.arguments import (
    ConditionalPredictor,
    check_labels,
    check_number,
    factor,
    pair,
    per_image,
)
from guidance.classifier import LogProb


def posterior_negative_guidance(
    eps: ConditionalPredictor,
    log_prob: LogProb,
    negative: int | Tensor,
    *,
    null: int,
    scale: float | Tensor = 1.0,
    p_max: float = 0.99,
) -> Callable[[Tensor, Tensor], Tensor]:
    """ε̂(x_t, t) = ε_θ(x_t, t, ∅) − λ·(ε_θ(x_t, t, c₋) − ε_θ(x_t, t, ∅)),
    λ = λ_0·p/(1 − p),  p = p_φ(c₋|x_t)

    DNG Eq. 10, Alg. 1, with p from a noisy classifier where the paper tracks it along the path.
    With λ_0 = 1 and the exact p it is the noise of p(x|not c₋), and off where c₋ is impossible.
    log_prob: log p(c₋|x_t), (B,), as `class_log_prob` makes it. negative: 0..K, or (B,).
    scale: λ_0. p is capped at p_max, as a p near 1 has no useful λ. ValueError on bad arguments.
    """
    n = check_labels("negative", negative, null)
    scale = check_number("scale", scale, "DNG's λ_0: 0 is off, 1 is exact")
    if not (is_number(p_max) and 0 < p_max < 1):
        raise ValueError(f"p_max must lie in (0, 1), got {p_max}")

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            p = log_prob(x_t, t).exp().clamp(max=p_max)  # (B,)
        odds = factor("scale", scale, x_t) * factor("p", p / (1 - p), x_t)  # λ, (B, 1, ...)
        n_b = per_image("negative", n, x_t)  # (B,)
        eps_null, eps_n = pair(eps, x_t, t, torch.full_like(n_b, null), n_b)
        return eps_null - odds * (eps_n - eps_null)

    return guided
