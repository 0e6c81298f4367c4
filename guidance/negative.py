"""Negative guidance: p₋ in the place of ∅, from a start step on. NegPrompt (Ban et al.) Eq. 5."""

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
    labels,
    per_image,
    together,
)
from guidance.classifier_free import Weight


@checked
def negative_guidance(
    eps: ConditionalPredictor,
    positive: Label,
    negative: Label,
    w: Weight,
    *,
    null: Null,
    start: float | Tensor | None = None,
    stop: Stop = 0,
) -> Predictor:
    """ε̂(x_t, t) = (1 + w)·ε_θ(x_t, t, p₊) − w·ε_θ(x_t, t, p₋)  while stop < t ≤ start,
    with ∅ in the place of p₋ at every other t (Eq. 4, which is classifier-free guidance).

    NegPrompt Eq. 5. start, stop: values of t, numbers or (B,); start=None is from the first step.
    Step k of S starts it with start=timesteps(T, S)[k]; start=0 is never. The switch is a choice
    of token, so each image of a batch can have its own.
    positive, negative: classes in 0..K, numbers or (B,). With positive = ∅ the class p₋ is pushed
    out of unconditional sampling, with DNG's constant λ = w.
    Returns a predictor for any sampler; ValueError on bad labels, w, or a start below the stop.
    """

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        p_b, n_b = labels("positive", positive, x_t), labels("negative", negative, x_t)  # (B,)
        active = during(start, stop, t, x_t)  # (B,)
        w_b = factor("w", w, x_t)
        second = torch.where(active, n_b, null)  # (B,)
        eps_p, eps_n = together(
            eps, x_t, t, p_b, torch.where(per_image("w", w, x_t) == 0, p_b, second)
        )
        return (1 + w_b) * eps_p - w_b * eps_n

    return guided
