"""A reader's line, made into the function that a law calls."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ddpm import linear_schedule
from exercises.law import from_tests
from guidance.classifier import gradient


def simple_loss_of(yours: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`simple_loss` with the reader's error inside: t and ε drawn as DDPM's Alg. 1 says."""

    def simple_loss(schedule: Any, eps: Any, x_0: Tensor, *, generator: Any = None) -> Tensor:
        t = torch.randint(1, schedule.T + 1, (len(x_0),), generator=generator)
        noise = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
        return yours(eps, schedule, x_0, t, noise)

    return simple_loss


def drawn_by(yours: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`simple_loss` with the reader's t."""

    def simple_loss(schedule: Any, eps: Any, x_0: Tensor, *, generator: Any = None) -> Tensor:
        return eps(x_0, yours(len(x_0), schedule.T, generator)).mean()

    return simple_loss


def line_of(yours: Callable[..., Tensor]) -> dict[str, Any]:
    """The law's three Gaussians on a line, their ε by ADM Eq. 11 from the reader's score."""

    def eps(schedule: Any) -> Callable[..., Tensor]:
        def noise(x_t: Tensor, t: Tensor) -> Tensor:
            alpha_bar = float(schedule.alpha_bar[int(t[0])])
            mean = alpha_bar**0.5 * torch.tensor([[-3.0], [0.0], [3.0]], dtype=torch.float64)
            spread = alpha_bar * 0.25 + 1 - alpha_bar
            return -((1 - alpha_bar) ** 0.5) * yours(x_t, mean, spread, torch.full((3,), 1 / 3))

        return noise

    return {"line": SimpleNamespace(eps=eps)}


def guided_by(yours: Callable[..., Tensor]) -> Callable[..., Any]:
    """`classifier_guidance` with the reader's line."""

    def classifier_guidance(eps: Any, log_prob: Any, s: float, schedule: Any) -> Any:
        at = lambda x, t: schedule.at(schedule.alpha_bar, t, x)  # noqa: E731
        return lambda x, t: yours(eps(x, t), gradient(log_prob, x, t), s, at(x, t))

    return classifier_guidance


def free_by(yours: Callable[..., Tensor]) -> Callable[..., Any]:
    """`classifier_free_guidance` with the reader's line."""

    def classifier_free_guidance(eps: Any, c: Tensor, w: float, *, null: int) -> Any:
        return lambda x, t: yours(eps(x, t, c), eps(x, t, torch.full_like(c, null)), w)

    return classifier_free_guidance


def drops_of(yours: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`drop_labels`, whose ∅ and generator have names."""
    return lambda c, p, *, null, generator: yours(c, p, null, generator)


def negative_by(yours: Callable[..., Tensor]) -> Callable[..., Any]:
    """`negative_guidance` with the reader's choice between p₋ and ∅."""

    def negative_guidance(
        eps: Any, p: int, n: int, w: float, *, null: int, start: int, stop: int
    ) -> Any:
        def guided(x: Tensor, t: Tensor) -> Tensor:
            labels = torch.cat([torch.full_like(t, p), yours(t, n, null, start, stop)])
            plus, minus = eps(torch.cat([x, x]), torch.cat([t, t]), labels).chunk(2)
            return (1 + w) * plus - w * minus

        return guided

    return negative_guidance


def world(yours: Callable[..., Tensor]) -> dict[str, Any]:
    """The exact predictor alone: the law's second world is a network, and has the same tokens."""
    schedule, oracles = linear_schedule(), from_tests("oracles")
    return {"world": (schedule, oracles.three_in_the_plane().eps(schedule), oracles.normal((4, 2)))}


def pushed_by(yours: Callable[..., Tensor]) -> Callable[..., Any]:
    """`posterior_negative_guidance` with the reader's λ(p)."""

    def guidance(eps: Any, log_prob: Any, n: int, *, null: int, p_max: float) -> Any:
        def guided(x: Tensor, t: Tensor) -> Tensor:
            push = yours(log_prob(x, t).exp().clamp(max=p_max))[:, None]
            free = eps(x, t)
            return free - push * (eps(x, t, torch.full_like(t, n)) - free)

        return guided

    return guidance


def critical_by(yours: Callable[..., float]) -> Callable[..., float]:
    """`critical_log_snr` with the reader's formula where there is such a log-SNR at all."""
    return lambda delta, variance, d=2.0: (
        yours(delta, variance, d) if delta > d * variance**0.5 else math.inf
    )
