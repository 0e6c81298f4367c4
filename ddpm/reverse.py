"""The reverse process: from noise to the image. DDPM Eq. 11, 15, Alg. 2; DDIM Eq. 12, 16.

A sampler knows an ε-predictor and nothing else, so every guidance works with every sampler. It is
a generator: `for step in ddim(schedule, eps, x_T, 50): ...` shows each state as it appears.
"""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from ddpm.checked import Call, checked
from ddpm.checks import Clip, Generators, Images, Steps, Times, Variance, number
from ddpm.forward import noise_like, q_posterior
from ddpm.loss import Predictor
from ddpm.schedule import Schedule, timesteps
from ddpm.values import integer


class Step(NamedTuple):
    """One update of a sampler.

    x is the sampler's own state: changed in place (`step.x[mask] = …`), it is what the next update
    starts from. The other fields, and what is sent to the generator, change nothing.
    """

    t: int  # the t that the update left
    x: Tensor  # the state after it, (B, ...)
    eps: Tensor  # the predictor's answer at t, (B, ...)
    x_0: Tensor  # the image that this answer implies, clipped, (B, ...)


@checked
def predict_x_0(schedule: Schedule, x_t: Images, t: Times, eps: Images) -> Tensor:
    """x̂_0 = (x_t − √(1 − ᾱ_t)·ε) / √ᾱ_t

    DDPM Eq. 15; CFG Eq. 5. The image that ε would leave behind. Not clipped.
    x_t, eps: (B, ...); t: (B,) in 1..T, or one for all. Returns (B, ...).
    """
    noise = schedule.at((1 - schedule.alpha_bar).sqrt(), t, x_t)  # (B, 1, ...)
    return (x_t - noise * eps) / schedule.at(schedule.alpha_bar.sqrt(), t, x_t)


@checked
def reverse_mean(schedule: Schedule, x_t: Images, t: Times, eps: Images) -> Tensor:
    """μ_θ(x_t, t) = 1/√α_t · (x_t − β_t/√(1 − ᾱ_t)·ε)

    DDPM Eq. 11: μ̃_t of Eq. 7 with Eq. 15 in the place of x_0.
    x_t, eps: (B, ...); t: (B,) in 1..T, or one for all. Returns (B, ...).
    """
    noise = schedule.at(schedule.beta / (1 - schedule.alpha_bar).sqrt(), t, x_t)  # (B, 1, ...)
    return (x_t - noise * eps) / schedule.at(schedule.alpha.sqrt(), t, x_t)


@checked
@torch.no_grad()
def ancestral(
    schedule: Schedule,
    eps: Predictor,
    x_T: Images,
    steps: Steps = None,
    *,
    clip: Clip = (-1, 1),
    generator: Generators = None,
    variance: Variance = "beta",
    shift: Predictor | None = None,
) -> Iterator[Step]:
    """x_{t−1} ~ N(μ_θ(x_t, t), σ_t²·I),  σ_t² = β_t ("beta") or β̃_t ("posterior")

    DDPM Eq. 1, Alg. 2; CFG Eq. 4 with v = 1 or 0. The mean is Eq. 7 with x̂_0 of Eq. 15, which is
    Eq. 11 as long as clip changes nothing; no noise at the last update.
    shift: g(x_t, t) as `guidance.classifier_mean_shift` makes it moves the mean by σ_t²·g (ADM
    Alg. 1), after the clip. x_T: (B, ...). steps: None (all T), a number S, or a decreasing list
    of t. generator: one, or one for each image: its noise is then the same in every batch.
    clip=None turns the clip off: ε's error comes into x̂_0 times √(1/ᾱ_t − 1), up to thousands with
    few steps of the cosine schedule.
    """
    visited = visits(schedule.T, steps)
    sub = schedule.subsequence(visited)  # its entry i is the visited t_i
    sigma_squared = sub.beta if variance == "beta" else sub.posterior_variance  # (S+1,)
    x = x_T
    for i, t in zip(range(len(visited), 0, -1), visited, strict=True):
        t_b = torch.full((len(x),), t, device=x.device)
        noise = noise_like(x, generator) if i > 1 else None
        e = eps(x, t_b)  # (B, ...)
        x_0 = clipped(predict_x_0(sub, x, i, e), clip)
        mean, _ = q_posterior(sub, x_0, x, i)
        if shift is not None:
            mean = mean + sigma_squared[i] * shift(x, t_b)
        x = mean if noise is None else mean + sigma_squared[i].sqrt() * noise
        yield Step(t, x, e, x_0)


def look_at_eta(name: str, value: Any, call: Call) -> None:
    """A number ≥ 0 with σ_t² ≤ 1 − ᾱ_{t−1} at every visited t; η ≤ 1 always is."""
    number(0)(name, value, call)
    schedule: Schedule = call["schedule"]
    alpha_bar = schedule.alpha_bar[visits(schedule.T, call["steps"])]
    a, b = alpha_bar[:-1], alpha_bar[1:]  # ᾱ_t, ᾱ_{t−1}; the last update adds no noise
    if not bool((value**2 * (1 - a / b) <= 1 - a).all()):
        raise ValueError(f"{name} must keep σ_t² ≤ 1 − ᾱ_{{t−1}}, as {name} ≤ 1 does, got {value}")


@checked
@torch.no_grad()
def ddim(
    schedule: Schedule,
    eps: Predictor,
    x_T: Images,
    steps: Steps = None,
    *,
    clip: Clip = (-1, 1),
    generator: Generators = None,
    eta: Annotated[float, look_at_eta] = 0.0,
) -> Iterator[Step]:
    """x_{t−1} = √ᾱ_{t−1}·x̂_0 + √(1 − ᾱ_{t−1} − σ_t²)·ε + σ_t·z
    σ_t = η·√((1 − ᾱ_{t−1})/(1 − ᾱ_t))·√(1 − ᾱ_t/ᾱ_{t−1})

    DDIM Eq. 12, 16, where t−1 stands for the next visited t. η = 0 is deterministic, η = 1 is
    `ancestral` with β̃_t. Where clip changes x̂_0, ε is what leads from it to x_t.
    x_T: (B, ...). steps: None (all T), a number S, or a decreasing list of t. clip, generator: as
    in `ancestral`.
    """
    x = x_T
    for t, s in itertools.pairwise([*visits(schedule.T, steps), 0]):
        a, b = schedule.alpha_bar[t], schedule.alpha_bar[s]  # ᾱ_t, ᾱ_{t−1}
        sigma = eta * ((1 - b) / (1 - a)).sqrt() * (1 - a / b).sqrt()
        noise = noise_like(x, generator) if eta > 0 and s > 0 else None
        e = eps(x, torch.full((len(x),), t, device=x.device))  # (B, ...)
        x_0 = clipped(predict_x_0(schedule, x, t, e), clip)
        direction = e if clip is None else (x - a.sqrt() * x_0) / (1 - a).sqrt()
        x = b.sqrt() * x_0 + (1 - b - sigma**2).sqrt() * direction
        if noise is not None:
            x = x + sigma * noise
        yield Step(t, x, e, x_0)


def visits(T: int, steps: Steps) -> list[int]:
    """The list of t that `steps` stands for."""
    if steps is None:
        return timesteps(T, T)
    S = integer(steps)
    return [int(t) for t in steps] if S is None else timesteps(T, S)  # type: ignore[union-attr]


def clipped(x_0: Tensor, clip: Clip) -> Tensor:
    """x_0 with its values moved into [low, high]; as it is where clip is None."""
    return x_0 if clip is None else x_0.clamp(*clip)
