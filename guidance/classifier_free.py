"""Classifier-free guidance: extrapolate from ∅ through the class. CFG (Ho & Salimans) Eq. 6."""

from typing import Annotated

import torch
from torch import Tensor

from ddpm import Predictor
from ddpm.checked import checked
from guidance.arguments import (
    ConditionalPredictor,
    Label,
    Null,
    Stop,
    during,
    factor,
    finite,
    labels,
    per_image,
    together,
)

Weight = Annotated[
    float | Tensor,
    finite("w is Ho & Salimans' w: 0 is plain conditional; guidance_scale s is w + 1"),
]


@checked
def classifier_free_guidance(
    eps: ConditionalPredictor,
    c: Label,
    w: Weight,
    *,
    null: Null,
    start: float | Tensor | None = None,
    stop: Stop = 0,
) -> Predictor:
    """ε̃(x_t, t) = (1 + w)·ε_θ(x_t, t, c) − w·ε_θ(x_t, t, ∅)  while stop < t ≤ start,
    with w = 0 at every other t.

    CFG Eq. 6, Alg. 2; NegPrompt Eq. 4. w = 0 is plain conditional sampling, w = −1 unconditional.
    The interval is Kynkäänniemi et al.'s (2024), in t in the place of σ.
    c: a class in 0..K or one per image (B,); w: a number or (B,); null: K, the token of ∅.
    start, stop: values of t, numbers or (B,); start=None is from the first step.
    Returns a predictor for any sampler; ValueError on bad labels, w, or a start below the stop.
    """

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        c_b = labels("c", c, x_t)  # (B,)
        w_b = factor("w", w, x_t)
        active = during(start, stop, t, x_t) & (per_image("w", w, x_t) != 0)  # (B,)
        eps_c, eps_null = together(eps, x_t, t, c_b, torch.where(active, null, c_b))
        acts = active.view(-1, *[1] * (x_t.ndim - 1))  # (B, 1, ...)
        return torch.where(acts, (1 + w_b) * eps_c - w_b * eps_null, eps_c)

    return guided
