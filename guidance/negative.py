"""Negative guidance: p₋ in the place of ∅, from a start step on. NegPrompt (Ban et al.) Eq. 5."""

from collections.abc import Callable

import torch
from torch import Tensor

from guidance.arguments import (
    ConditionalPredictor,
    check_labels,
    check_number,
    factor,
    pair,
    per_image,
)
from guidance.classifier_free import W_CONVENTION


def negative_guidance(
    eps: ConditionalPredictor,
    positive: int | Tensor,
    negative: int | Tensor,
    w: float | Tensor,
    *,
    null: int,
    start: float | Tensor | None = None,
    stop: float | Tensor = 0,
) -> Callable[[Tensor, Tensor], Tensor]:
    """ε̂(x_t, t) = (1 + w)·ε_θ(x_t, t, p₊) − w·ε_θ(x_t, t, p₋)  while stop < t ≤ start,
    with ∅ in the place of p₋ at every other t (Eq. 4, which is classifier-free guidance).

    NegPrompt Eq. 5. start, stop: values of t, numbers or (B,); start=None is from the first step.
    Step k of S starts it with start=timesteps(T, S)[k]; start=0 is never. The switch is a choice
    of token, so each image of a batch can have its own.
    positive, negative: classes in 0..K, numbers or (B,). With positive = ∅ the class p₋ is pushed
    out of unconditional sampling, with DNG's constant λ = w.
    Returns a predictor for any sampler; ValueError on bad labels, w, or a start below the stop.
    """
    w = check_number("w", w, W_CONVENTION)
    p, n = check_labels("positive", positive, null), check_labels("negative", negative, null)
    stop = check_number("stop", stop, "a value of t")
    if start is not None:
        start = check_number("start", start, "a value of t; None is from the first step")
        first, last = (torch.as_tensor(value).cpu() for value in (start, stop))
        if first.ndim and last.ndim and first.shape != last.shape:
            raise ValueError(
                f"start and stop must be of one length, got {len(first)} and {len(last)}"
            )
        if bool((first < last).any()):
            raise ValueError(
                f"start must not lie below stop: t falls from T to 1, and the negative class acts "
                f"while stop < t ≤ start; got start={start}, stop={stop}"
            )

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        p_b = per_image("positive", p, x_t)  # (B,)
        n_b = per_image("negative", n, x_t)  # (B,)
        active = per_image("stop", stop, x_t) < t  # (B,)
        if start is not None:
            active = active & (t <= per_image("start", start, x_t))
        w_b = factor("w", w, x_t)
        eps_p, eps_n = pair(eps, x_t, t, p_b, torch.where(active, n_b, null))
        return (1 + w_b) * eps_p - w_b * eps_n

    return guided
