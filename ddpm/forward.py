"""The forward process q: from the image to noise. DDPM Eq. 2–7."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm.checked import checked
from ddpm.checks import Images, Times, TimesOrClean
from ddpm.schedule import Schedule


@checked
def q_sample(schedule: Schedule, x_0: Images, t: TimesOrClean, eps: Images) -> Tensor:
    """x_t = √ᾱ_t·x_0 + √(1 − ᾱ_t)·ε

    DDPM Eq. 4: t noising steps of Eq. 2 at once. CFG Eq. 1 with λ = log(ᾱ_t/(1 − ᾱ_t)).
    x_0, eps: (B, ...); t: (B,) in 0..T, or one for all. Returns (B, ...).
    """
    signal = schedule.at(schedule.alpha_bar.sqrt(), t, x_0)  # (B, 1, ...)
    noise = schedule.at((1 - schedule.alpha_bar).sqrt(), t, x_0)  # (B, 1, ...)
    return signal * x_0 + noise * eps


@checked
def q_posterior(schedule: Schedule, x_0: Images, x_t: Images, t: Times) -> tuple[Tensor, Tensor]:
    """q(x_{t−1} | x_t, x_0) = N(μ̃_t, β̃_t·I),  β̃_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t)·β_t
    μ̃_t = √ᾱ_{t−1}·β_t/(1 − ᾱ_t)·x_0 + √α_t·(1 − ᾱ_{t−1})/(1 − ᾱ_t)·x_t

    DDPM Eq. 6, 7; CFG Eq. 3. x_0, x_t: (B, ...); t: (B,) in 1..T, or one for all.
    Returns mean (B, ...) and variance (B, 1, ...).
    """
    beta, alpha, alpha_bar = schedule.beta, schedule.alpha, schedule.alpha_bar
    previous = alpha_bar.roll(1)  # ᾱ_{t−1}
    from_x_0 = schedule.at(previous.sqrt() * beta / (1 - alpha_bar), t, x_0)  # (B, 1, ...)
    from_x_t = schedule.at(alpha.sqrt() * (1 - previous) / (1 - alpha_bar), t, x_t)
    return from_x_0 * x_0 + from_x_t * x_t, schedule.at(schedule.posterior_variance, t, x_t)


def noise_like(
    x: Tensor, generator: torch.Generator | Sequence[torch.Generator] | None = None
) -> Tensor:
    """ε ~ N(0, I) with the shape, type and device of x.

    Drawn on the generator's device: a CPU generator gives the same noise on every device. Of a list
    each generator draws for one image, which then has the same noise in every batch.
    """
    if isinstance(generator, Sequence):
        pairs = zip(x, generator, strict=True)
        return torch.stack([noise_like(image, one) for image, one in pairs])
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
