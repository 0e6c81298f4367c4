"""The forward process q: from the image to noise. DDPM Eq. 2–7."""

import torch
from torch import Tensor

from ddpm.schedule import Schedule

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def q_sample(schedule: Schedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_t = √ᾱ_t·x_0 + √(1 − ᾱ_t)·ε

    DDPM Eq. 4: t noising steps of Eq. 2 at once. CFG Eq. 1 with λ = log(ᾱ_t/(1 − ᾱ_t)).
    x_0, eps: (B, ...); t: (B,) in 0..T. Returns (B, ...).
    """
    check_batches(x_0=x_0, eps=eps)
    alpha_bar = schedule.alpha_bar  # (T+1,)
    signal = schedule.at(alpha_bar.sqrt(), t, x_0)  # (B, 1, ...)
    noise = schedule.at((1 - alpha_bar).sqrt(), t, x_0)  # (B, 1, ...)
    return signal * x_0 + noise * eps


def q_posterior(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """q(x_{t−1} | x_t, x_0) = N(μ̃_t, β̃_t·I),  β̃_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t)·β_t
    μ̃_t = √ᾱ_{t−1}·β_t/(1 − ᾱ_t)·x_0 + √α_t·(1 − ᾱ_{t−1})/(1 − ᾱ_t)·x_t

    DDPM Eq. 6, 7; CFG Eq. 3. x_0, x_t: (B, ...); t: (B,) in 1..T.
    Returns mean (B, ...) and variance (B, 1, ...).
    """
    check_batches(x_0=x_0, x_t=x_t)
    beta, alpha, alpha_bar = schedule.beta, schedule.alpha, schedule.alpha_bar
    previous = alpha_bar.roll(1)  # ᾱ_{t−1}
    from_x_0 = schedule.at(previous.sqrt() * beta / (1 - alpha_bar), t, x_0, first=1)
    from_x_t = schedule.at(alpha.sqrt() * (1 - previous) / (1 - alpha_bar), t, x_t, first=1)
    return from_x_0 * x_0 + from_x_t * x_t, schedule.at(schedule.posterior_variance, t, x_t)


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """ε ~ N(0, I) with the shape, type and device of x.

    Drawn on the generator's device: a CPU generator gives the same noise on every device.
    """
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def check_batches(**tensors: Tensor) -> None:
    """TypeError or ValueError that names what is no batch of floats, or is of another shape or
    device than the first: broadcasting would hide it.
    """
    (name, first), *rest = tensors.items()
    for other, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{other} must be a tensor, got {type(tensor).__name__}")
        if tensor.dtype not in FLOATS or not tensor.ndim:
            raise ValueError(
                f"{other} must be (B, ...) floats, got {tuple(tensor.shape)} of {tensor.dtype}"
            )
    for other, tensor in rest:
        if tensor.device != first.device:
            raise ValueError(f"{other} must be on {first.device} as {name} is: {tensor.device}")
        if tensor.shape != first.shape:
            raise ValueError(
                f"{other} must have the shape of {name}, {tuple(first.shape)}, "
                f"got {tuple(tensor.shape)}"
            )
