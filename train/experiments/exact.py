"""Worlds of a few Gaussians where ε* is exact, and DDIM runs in them, with p₋ or without it.

All in float64 and without a clip: the data of these worlds reach beyond [-1, 1].
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm import GaussianMixture, cosine_schedule, ddim, timesteps
from guidance import negative_guidance

SCHEDULE = cosine_schedule()
W = 6.5  # NegPrompt's own: guidance 7.5
SMALL, LARGE = 0.8, 6.4  # separations, in units of the data


class World(NamedTuple):
    """A mixture, and which of its labels p₊ and p₋ are; p₊ = ∅ is the mixture's null token."""

    mixture: GaussianMixture
    positive: int
    negative: int


def square(
    plus: float, minus: float, both: float, sizes: tuple[float, float], variance: float
) -> GaussianMixture:
    """Two concepts, an axis each, in any dependence: up to four Gaussians. p₊ = 0, p₋ = 1."""
    weight = {(1, 1): both, (1, 0): plus - both, (0, 1): minus - both, (0, 0): 1 + both}
    weight[0, 0] -= plus + minus
    corners = torch.tensor([c for c, p in weight.items() if p > 1e-9], dtype=torch.float64)
    p = torch.tensor([p for p in weight.values() if p > 1e-9], dtype=torch.float64)
    mean = corners * torch.tensor(sizes, dtype=torch.float64)
    return GaussianMixture(mean, torch.full_like(p, variance), p, corners.T.bool())


def on_a_line(
    mean: Iterable[float], weight: Iterable[float], *concepts: Iterable[int], variance: float = 0.05
) -> World:
    """Gaussians on a line; p₊ = ∅, p₋ = the first concept."""
    m, p = (torch.tensor(list(v), dtype=torch.float64) for v in (mean, weight))
    true = torch.tensor([list(c) for c in concepts]).bool()
    mixture = GaussianMixture(m[:, None], torch.full_like(p, variance), p, true)
    return World(mixture, mixture.null_token, 0)


# Independent, and a fifth of the pictures each: p₊ a whole scene and p₋ a detail, or the reverse
SMALLER = World(square(0.2, 0.2, 0.04, (LARGE, SMALL), 0.01), 0, 1)
LARGER = World(square(0.2, 0.2, 0.04, (SMALL, LARGE), 0.01), 0, 1)
# p₋ is both of two looks, a typical and a rare one; the second concept is the rare one alone
TWO_MODES = on_a_line((0, 1.2, -1.5), (0.98, 0.019, 0.001), (0, 1, 1), (0, 0, 1))
SAME_SIDE = on_a_line((0, 1.2, 2.7), (0.98, 0.019, 0.001), (0, 1, 1), (0, 0, 1))
ONE_MODE = on_a_line((0, 1.2), (0.98, 0.02), (0, 1), (0, 1))


def noise(world: World, n: int, seed: int) -> Tensor:
    """x_T, (n, D)."""
    D = world.mixture.mean.shape[1]
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def states(
    world: World,
    x_T: Tensor,
    S: int,
    w: float = W,
    start: int | Tensor = 0,
    stop: int | Tensor | None = None,
) -> list[Tensor]:
    """x_T and every state after it, S + 1 of (n, D), as DDIM with η = 0 visits them.

    p₋ acts in the steps start ≤ k < stop, numbers or (n,); ∅ is in its place in the others.
    """
    visited = torch.tensor([*timesteps(SCHEDULE.T, S), 0])
    mixture, positive, negative = world
    eps = negative_guidance(
        mixture.eps(SCHEDULE), positive, negative, w, null=mixture.null_token,
        start=visited[start], stop=visited[S if stop is None else stop],
    )  # fmt: skip
    return [x_T, *(step.x for step in ddim(SCHEDULE, eps, x_T, S, clip=None))]


def ends(
    world: World, x_T: Tensor, S: int, w: float, start: Sequence[int], stop: Sequence[int]
) -> Tensor:
    """The pictures of each (start, stop) from the same noise, all in one batch: (m, n, D)."""
    each, n = len(start), len(x_T)
    first, last = (torch.tensor(steps).repeat_interleave(n) for steps in (start, stop))
    x = x_T.repeat(each, 1)
    return (states(world, x, S, w, first, last)[-1] if n else x).view(each, n, x_T.shape[1])


def has(world: World, x: Tensor, concept: int) -> Tensor:
    """Whether x_0 (..., n, D) is of the concept, (..., n): it is more likely than not."""
    if not x.numel():
        return x.new_zeros(x.shape[:-1]).bool()
    log_p = world.mixture.log_posterior(SCHEDULE, x.reshape(-1, x.shape[-1]), 0)[:, concept]
    return (log_p > math.log(0.5)).view(x.shape[:-1])


def predictions(world: World, x: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """ε₊, ε₋ and ε_∅ at x_t, each (n, D)."""
    times, eps = torch.full((len(x),), t), world.mixture.eps(SCHEDULE)
    plus, minus = (eps(x, times, torch.full_like(times, c)) for c in world[1:])
    return plus, minus, eps(x, times)
