"""Classifier guidance: follow a noisy classifier's gradient. ADM (Dhariwal & Nichol) Sec. 4."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm import Predictor, Schedule
from ddpm.checked import checked
from ddpm.checks import check_times
from guidance.arguments import check_labels, factor, finite, labels

LogProb = Callable[[Tensor, Tensor], Tensor]
"""log p(y|x_t) of the wanted class: log_prob(x_t, t) -> (B,), differentiable in x_t."""

Scale = Annotated[float | Tensor, finite("the scale is ADM's s: 0 is off")]


@checked
def classifier_guidance(
    eps: Predictor, log_prob: LogProb, scale: Scale, schedule: Schedule
) -> Predictor:
    """ε̂(x_t) = ε_θ(x_t) − s·√(1 − ᾱ_t)·∇_{x_t} log p_φ(y|x_t)

    ADM Eq. 12, 13, 14, Alg. 2. eps: unconditional, or bound to the class (ADM's best setting); on
    exact predictors scale s equals CFG with w = s − 1 in the first case and w = s in the second.
    scale: a number or (B,). Returns a predictor for any sampler; ValueError if scale is not finite.
    """

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        check_times("t", t, x_t, schedule.T)
        sigma = schedule.at((1 - schedule.alpha_bar).sqrt(), t, x_t)  # (B, 1, ...)
        return eps(x_t, t) - factor("scale", scale, x_t) * sigma * gradient(log_prob, x_t, t)

    return guided


@checked
def classifier_mean_shift(log_prob: LogProb, scale: Scale) -> Predictor:
    """x_{t−1} ~ N(μ + s·Σ·∇_{x_t} log p_φ(y|x_t), Σ): the shift s·∇log p_φ, for `ancestral`

    ADM Eq. 2, 7, 8, 9, 10, Alg. 1, with the gradient at x_t as in the algorithm's box, not at μ as
    in Eq. 6. Eq. 14 inside `ancestral` moves the mean by s·β_t/√α_t·∇log p_φ instead, as long as
    nothing is clipped: the same shift times 1/√α_t if Σ = β_t, times β_t/(β̃_t·√α_t) if Σ = β̃_t.
    """

    def shift(x_t: Tensor, t: Tensor) -> Tensor:
        return factor("scale", scale, x_t) * gradient(log_prob, x_t, t)

    return shift


def class_log_prob(
    classifier: Callable[[Tensor, Tensor], Tensor], y: int | Tensor, *, exclusive: bool = True
) -> LogProb:
    """log p_φ(y|x_t) from a classifier's logits (B, K), for the two guidances above.

    y: a class in 0..K−1 or one per image (B,). Classes share a softmax; of concepts, which do not
    exclude each other (exclusive=False), each logit is one of a sigmoid.
    """

    def log_prob(x_t: Tensor, t: Tensor) -> Tensor:
        logits = classifier(x_t, t)  # (B, K)
        log_p = logits.log_softmax(dim=1) if exclusive else F.logsigmoid(logits)
        check_labels("y", y, log_p.shape[1] - 1)
        return log_p.gather(1, labels("y", y, x_t)[:, None]).squeeze(1)

    return log_prob


def gradient(log_prob: LogProb, x_t: Tensor, t: Tensor) -> Tensor:
    """∇_{x_t} log p(y|x_t) for each image, (B, ...): g of ADM Eq. 5, 6, at x_t.

    One backward pass over the batch's sum, since an image's log-probability depends on that image
    alone. In float32 at least; works inside no_grad and inference_mode, and leaves no graph behind.
    """
    # Cloned outside of inference mode: autograd can't record what was made inside it.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(x_t.device.type, enabled=False),
    ):
        x = x_t.detach().clone().to(torch.promote_types(x_t.dtype, torch.float32))
        log_p = log_prob(x.requires_grad_(), t.clone())
        if log_p.shape != t.shape:
            raise ValueError(
                f"log_prob must give log p(y|x_t) of the wanted class, ({len(t)},), "
                f"got {tuple(log_p.shape)}; class_log_prob makes it from logits"
            )
        (g,) = torch.autograd.grad(log_p.sum(), x)
    return g.to(x_t.dtype)
