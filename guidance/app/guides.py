"""Guidances that are still to be given their networks and labels.

An experiment is a dictionary from a name to a guide; `draw` turns a guide into samples.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm import Predictor
from guidance.app.models import Models
from guidance.classifier import classifier_guidance
from guidance.classifier_free import classifier_free_guidance
from guidance.dynamic import posterior_negative_guidance
from guidance.negative import negative_guidance

Guide = Callable[[Models, Tensor], Predictor]
"""guide(models, c) -> eps(x_t, t), for labels c (B,) in 0..K, K being ∅."""


def none() -> Guide:
    """ε_θ(x_t, t, c) as it is."""

    def guide(models: Models, c: Tensor) -> Predictor:
        unet = models.trained(c)
        return lambda x_t, t: unet(x_t, t, c)

    return guide


def unconditional() -> Guide:
    """ε_θ(x_t, t, ∅), whatever the labels."""
    return lambda models, c: none()(models, torch.full_like(c, models.K))


def classifier_free(
    w: float, *, start: float | Tensor | None = None, stop: float | Tensor = 0
) -> Guide:
    """CFG Eq. 6; start and stop are values of t (`window` has them of steps)."""
    return lambda models, c: classifier_free_guidance(
        models.trained(c, models.K) if w else models.trained(c),
        c, w, null=models.K, start=start, stop=stop,
    )  # fmt: skip


def classifier(scale: float, *, conditional: bool = False) -> Guide:
    """ADM Eq. 14 towards c, on ε(∅) or, conditional, on ε(c)."""

    def guide(models: Models, c: Tensor) -> Predictor:
        base = none() if conditional else unconditional()
        return classifier_guidance(base(models, c), models.log_prob(c), scale, models.schedule)

    return guide


def negative(
    negative: int | Tensor,
    w: float,
    *,
    start: float | Tensor | None = None,
    stop: float | Tensor = 0,
) -> Guide:
    """NegPrompt Eq. 5 with p₊ = c; start and stop are values of t (`window` has them of steps)."""
    return lambda models, c: negative_guidance(
        models.trained(c, negative, models.K),
        c, negative, w, null=models.K, start=start, stop=stop,
    )  # fmt: skip


def posterior_negative(
    negative: int | Tensor, scale: float = 1.0, *, conditional: bool = False
) -> Guide:
    """DNG Eq. 10 on ε(∅), or, conditional, on ε(c)."""
    return lambda models, c: posterior_negative_guidance(
        models.trained(negative, models.K),
        models.log_prob(negative), negative, null=models.K, scale=scale,
        positive=c if conditional else None,
    )  # fmt: skip
