"""The reverse process: from noise to the image. DDPM Eq. 11, 15, Alg. 2; DDIM Eq. 12, 16.

A sampler knows an ε-predictor and nothing else, so every guidance works with every sampler. It is
a generator: `for step in ddim(schedule, eps, x_T, 50): ...` shows each state as it appears.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.forward import check_batches, noise_like, q_posterior
from ddpm.loss import Predictor
from ddpm.schedule import Schedule, integer, is_number, timesteps

Clip = tuple[float, float] | None


class Step(NamedTuple):
    """One update of a sampler."""

    t: int  # the t that the update left
    x: Tensor  # the state after it, (B, ...)
    eps: Tensor  # the predictor's answer at t, (B, ...)
    x_0: Tensor  # the image that this answer implies, clipped, (B, ...)


def predict_x_0(schedule: Schedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x̂_0 = (x_t − √(1 − ᾱ_t)·ε) / √ᾱ_t

    DDPM Eq. 15; CFG Eq. 5. The image that ε would leave behind. Not clipped.
    x_t, eps: (B, ...); t: (B,) in 1..T. Returns (B, ...).
    """
    check_batches(x_t=x_t, eps=eps)
    alpha_bar = schedule.alpha_bar  # (T+1,)
    noise = schedule.at((1 - alpha_bar).sqrt(), t, x_t, first=1)  # (B, 1, ...)
    return (x_t - noise * eps) / schedule.at(alpha_bar.sqrt(), t, x_t)


def reverse_mean(schedule: Schedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """μ_θ(x_t, t) = 1/√α_t · (x_t − β_t/√(1 − ᾱ_t)·ε)

    DDPM Eq. 11: μ̃_t of Eq. 7 with Eq. 15 in the place of x_0.
    x_t, eps: (B, ...); t: (B,) in 1..T. Returns (B, ...).
    """
    check_batches(x_t=x_t, eps=eps)
    noise = schedule.at(schedule.beta / (1 - schedule.alpha_bar).sqrt(), t, x_t, first=1)
    return (x_t - noise * eps) / schedule.at(schedule.alpha.sqrt(), t, x_t)


def ancestral(
    schedule: Schedule,
    eps: Predictor,
    x_T: Tensor,
    steps: int | Sequence[int] | None = None,
    *,
    clip: Clip = (-1, 1),
    generator: torch.Generator | None = None,
    variance: str = "beta",
    shift: Predictor | None = None,
) -> Iterator[Step]:
    """x_{t−1} ~ N(μ_θ(x_t, t), σ_t²·I),  σ_t² = β_t ("beta") or β̃_t ("posterior")

    DDPM Eq. 1, Alg. 2; CFG Eq. 4 with v = 1 or 0. The mean is Eq. 7 with x̂_0 of Eq. 15, which is
    Eq. 11 as long as clip changes nothing; no noise at the last update.
    shift: g(x_t, t) as `guidance.classifier_mean_shift` makes it moves the mean by σ_t²·g (ADM
    Alg. 1), after the clip. x_T: (B, ...). steps: None (all T), a number S, or a decreasing list
    of t.
    """
    visited = _visited(schedule, x_T, steps, clip)
    if variance not in ("beta", "posterior"):
        raise ValueError(f"variance must be 'beta' or 'posterior', got {variance!r}")
    sub = schedule.subsequence(visited)
    sigma_squared = sub.beta if variance == "beta" else sub.posterior_variance  # (S+1,)

    def update(x: Tensor, t: Tensor, i: Tensor, noise: Tensor | None) -> tuple[Tensor, ...]:
        e = eps(x, t)  # (B, ...)
        x_0 = _clip(predict_x_0(sub, x, i, e), clip)
        mean, _ = q_posterior(sub, x_0, x, i)
        if shift is not None:
            mean = mean + sub.at(sigma_squared, i, x) * shift(x, t)
        if noise is not None:
            mean = mean + sub.at(sigma_squared.sqrt(), i, x) * noise
        return mean, e, x_0

    return _run(visited, x_T, update, generator, noisy=True)


def ddim(
    schedule: Schedule,
    eps: Predictor,
    x_T: Tensor,
    steps: int | Sequence[int] | None = None,
    *,
    clip: Clip = (-1, 1),
    generator: torch.Generator | None = None,
    eta: float = 0.0,
) -> Iterator[Step]:
    """x_{t−1} = √ᾱ_{t−1}·x̂_0 + √(1 − ᾱ_{t−1} − σ_t²)·ε + σ_t·z
    σ_t = η·√((1 − ᾱ_{t−1})/(1 − ᾱ_t))·√(1 − ᾱ_t/ᾱ_{t−1})

    DDIM Eq. 12, 16, where t−1 stands for the next visited t. η = 0 is deterministic, η = 1 is
    `ancestral` with β̃_t. Where clip changes x̂_0, ε is what leads from it to x_t.
    x_T: (B, ...). steps: None (all T), a number S, or a decreasing list of t.
    """
    visited = _visited(schedule, x_T, steps, clip)
    if not (is_number(eta) and eta >= 0):
        raise ValueError(f"eta must be a number ≥ 0, got {eta!r:.80}")
    eta = float(eta)  # of whatever kind of number
    sub = schedule.subsequence(visited)
    alpha_bar, previous = sub.alpha_bar, sub.alpha_bar.roll(1)  # (S+1,): ᾱ_t, ᾱ_{t−1}
    sigma = eta * ((1 - previous) / (1 - alpha_bar)).sqrt() * (1 - alpha_bar / previous).sqrt()
    sigma[0] = 0.0  # nothing comes before clean data
    if not bool((sigma**2 <= 1 - previous).all()):
        raise ValueError(f"eta must be a number ≥ 0 that keeps σ_t² ≤ 1 − ᾱ_{{t−1}}, got {eta}")

    def update(x: Tensor, t: Tensor, i: Tensor, noise: Tensor | None) -> tuple[Tensor, ...]:
        e = eps(x, t)  # (B, ...)
        x_0 = predict_x_0(sub, x, i, e)
        direction = e
        if clip is not None:
            x_0 = _clip(x_0, clip)
            direction = (x - sub.at(alpha_bar.sqrt(), i, x) * x_0) / sub.at(
                (1 - alpha_bar).sqrt(), i, x
            )
        towards_x_t = sub.at((1 - previous - sigma**2).sqrt(), i, x)  # (B, 1, ...)
        mean = sub.at(previous.sqrt(), i, x) * x_0 + towards_x_t * direction
        if noise is not None:
            mean = mean + sub.at(sigma, i, x) * noise
        return mean, e, x_0

    return _run(visited, x_T, update, generator, noisy=eta > 0)


@torch.no_grad()
def _run(
    visited: list[int],
    x: Tensor,
    update: Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, ...]],
    generator: torch.Generator | None,
    noisy: bool,
) -> Iterator[Step]:
    """The loop of every sampler; i = S, …, 1 is t's place in the sub-sequence."""
    for i, t in zip(range(len(visited), 0, -1), visited, strict=True):
        t_batch, i_batch = (torch.full((len(x),), k, device=x.device) for k in (t, i))
        noise = noise_like(x, generator) if noisy and i > 1 else None
        x, e, x_0 = update(x, t_batch, i_batch, noise)
        yield Step(t, x, e, x_0)


def _clip(x_0: Tensor, clip: Clip) -> Tensor:
    return x_0 if clip is None else x_0.clamp(*clip)


def _visited(
    schedule: Schedule, x_T: Tensor, steps: int | Sequence[int] | None, clip: Clip
) -> list[int]:
    """The list of t that `steps` stands for, after a look at what every sampler is given."""
    check_batches(x_T=x_T)
    if x_T.ndim < 2:
        raise ValueError(f"x_T must be (B, ...) floats, got {tuple(x_T.shape)} of {x_T.dtype}")
    pair = isinstance(clip, (tuple, list)) and len(clip) == 2
    if clip is not None and not (pair and all(map(is_number, clip)) and clip[0] < clip[1]):
        raise ValueError(f"clip must be None or (low, high) with low < high, got {clip}")
    if steps is None:
        return timesteps(schedule.T, schedule.T)
    if not isinstance(steps, Iterable) or (isinstance(steps, Tensor) and steps.ndim == 0):
        return timesteps(schedule.T, steps)
    few = list(itertools.islice(steps, schedule.T + 1))  # an endless one is not waited for
    visited = [t for t in map(integer, few) if t is not None]
    descending = all(t > s for t, s in itertools.pairwise(visited))
    whole = 0 < len(visited) == len(few)
    if not whole or not descending or visited[0] > schedule.T or visited[-1] < 1:
        raise ValueError(
            f"steps must be strictly decreasing values of t in 1..{schedule.T}, got {steps!s:.80}"
        )
    return visited
