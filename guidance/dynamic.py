"""Dynamic negative guidance: push no harder than the class is likely. DNG (Koulischer et al.)."""

from typing import Annotated

import torch
from torch import Tensor

from ddpm import Predictor
from ddpm.checked import checked
from ddpm.checks import number
from guidance.arguments import (
    ConditionalPredictor,
    Label,
    LabelOrNone,
    Null,
    factor,
    finite,
    labels,
    together,
)
from guidance.classifier import LogProb


@checked
def posterior_negative_guidance(
    eps: ConditionalPredictor,
    log_prob: LogProb,
    negative: Label,
    *,
    null: Null,
    positive: LabelOrNone = None,
    scale: Annotated[float | Tensor, finite("DNG's λ_0: 0 is off, 1 is exact")] = 1.0,
    p_max: Annotated[float, number(0, 1, inside=True)] = 0.99,
) -> Predictor:
    """ε̂(x_t, t) = ε_θ(x_t, t, p₊) − λ·(ε_θ(x_t, t, c₋) − ε_θ(x_t, t, ∅)),
    λ = λ_0·p/(1 − p),  p = p_φ(c₋|x_t)

    DNG Eq. 10, Alg. 1, with p from a noisy classifier where the paper tracks it along the path.
    With λ_0 = 1 and the exact p it is the noise of p_t(x|p₊)·(1 − p_t(c₋|x)), and off where c₋ is
    impossible. p₊ is ∅ in the paper (positive=None): that product is then p_t(x|not c₋). With a
    class it is p_t(x|p₊, not c₋) as far as x_t itself shows that class.
    log_prob: log p(c₋|x_t), (B,), as `class_log_prob` makes it. negative, positive: 0..K, or (B,).
    scale: λ_0. p is capped at p_max, as a p near 1 has no useful λ. ValueError on bad arguments.
    """

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            p = log_prob(x_t, t).exp().clamp(max=p_max)  # (B,)
        odds = factor("scale", scale, x_t) * factor("p", p / (1 - p), x_t)  # λ, (B, 1, ...)
        n_b = labels("negative", negative, x_t)  # (B,)
        p_b = labels("positive", null if positive is None else positive, x_t)
        eps_null, eps_n, eps_p = together(eps, x_t, t, torch.full_like(n_b, null), n_b, p_b)
        return eps_p - odds * (eps_n - eps_null)

    return guided
