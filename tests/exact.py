"""Worlds in which everything that is measured is known: a mixture for networks and for judge.

Beside each network stands the other road: the same quantity of one image, by plain numbers.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from ddpm import GaussianMixture, Schedule, cosine_schedule
from guidance.app.models import Models
from train.data import Dataset
from train.evaluate.lab import Lab

K, T = 3, 40
SCHEDULE: Schedule = cosine_schedule(T)
ALPHA_BAR = SCHEDULE.alpha_bar.tolist()


class World(NamedTuple):
    """Three Gaussians in space: a picture is one pixel of three channels."""

    mean: tuple[tuple[float, float, float], ...]
    variance: tuple[float, ...]
    weight: tuple[float, ...]
    concepts: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,))  # the Gaussians of each label

    @property
    def exclusive(self) -> bool:
        return all(len(of) == 1 for of in self.concepts)


WORLDS = {
    "even": World(
        ((0.5, -0.2, -0.2), (-0.2, 0.5, -0.2), (-0.2, -0.2, 0.5)), (0.05, 0.05, 0.05), (1, 1, 1)
    ),
    "lopsided": World(
        ((-0.1, -0.05, 0.03), (0.1, 0.0, -0.03), (0.0, 0.1, 0.08)),
        (0.05, 0.05, 0.03),
        (0.6, 0.3, 0.1),
    ),
}


# The first label has a half of the second in it, and the third is a part of the second.
OVERLAPPING = World(
    ((-0.4, -0.3, 0.1), (0.4, 0.1, -0.2), (0.0, 0.5, 0.3)),
    (0.05, 0.04, 0.06),
    (0.3, 0.5, 0.2),
    ((0, 1), (1, 2), (2,)),
)


class Exact(nn.Module):
    """What ε_θ, p_φ and the judge have in common: the mixture and a parameter on a device."""

    def __init__(self, mixture: GaussianMixture, exclusive: bool = True) -> None:
        super().__init__()
        self.exclusive, self.mixture, self.null_token = exclusive, mixture, K
        self.head = nn.Linear(1, 1)
        self.architecture = {"channels": 3, "size": 1}

    def log_odds(self, x: Tensor, t: Tensor | int) -> Tensor:
        """Logits whose softmax the posterior is, or of concepts each one's sigmoid."""
        log_p = self.mixture.log_posterior(SCHEDULE, x, t)
        return log_p if self.exclusive else log_p - torch.log1p(-log_p.exp())


class Eps(Exact):
    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return self.mixture.eps(SCHEDULE)(x, t, c)


class Posterior(Exact):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.log_odds(x, t)


class Judge(Exact):
    """Its features are the pixels, halved; it knows the classes at t = 0 by Bayes' rule."""

    def features(self, x: Tensor) -> Tensor:
        return x.double().flatten(1) / 2

    def logits(self, features: Tensor) -> Tensor:
        return self.log_odds(2 * features.view(-1, 3, 1, 1), 0)


class InDouble(Models):
    """Noise in float64: nothing that is measured comes near a rounding."""

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        return super().noise(n, generator).double()


def lab(world: World) -> Lab:
    """The lab of a world: 90 training and 80 test images that are other images, other shares."""
    mean = torch.tensor(world.mean, dtype=torch.float64).view(K, 3, 1, 1)
    of = torch.tensor([[m in gaussians for m in range(3)] for gaussians in world.concepts])
    mixture = GaussianMixture(mean, torch.tensor(world.variance, dtype=torch.float64),
                              torch.tensor(world.weight, dtype=torch.float64), of)  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    x, c = mixture.sample(400, generator)
    train = torch.cat([torch.where(c == k)[0][:30] for k in range(K)])
    rest = [i for i in range(400) if i not in set(train.tolist())]
    grey = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    held_out = rest[-80:]
    labels = c if world.exclusive else of[:, c].T
    data = Dataset("digits", grey[train], labels[train], grey[held_out], labels[held_out],
                   ["a", "b", "c"])  # fmt: skip
    found = object.__new__(Lab)
    found.device, found.batch_size, found.precision = torch.device("cpu"), 7, "float32"
    found.dtype, found.dtype_name, found.fingerprint = None, "float32", "sha256:0"
    info = {} if world.exclusive else {"concepts": True}
    p_phi, judge = Posterior(mixture, world.exclusive), Judge(mixture, world.exclusive)
    found.models = InDouble(Eps(mixture), p_phi, SCHEDULE, data.classes, info)  # type: ignore[arg-type]
    found.judge, found.data, found.K = judge, data, K  # type: ignore[assignment]
    return found


# -- the other road: one image, plain numbers ------------------------------------------------------


def posterior(world: World, x: np.ndarray, t: int) -> np.ndarray:
    """p_t(m|x) of each Gaussian by Bayes' rule."""
    a, density = ALPHA_BAR[t], []
    for m, v, weight in zip(world.mean, world.variance, world.weight, strict=True):
        of = a * v + 1 - a
        square = sum((xi - math.sqrt(a) * mi) ** 2 for xi, mi in zip(x, m, strict=True))
        density.append(weight / of**1.5 * math.exp(-square / 2 / of))
    return np.array(density) / sum(density)


def eps(world: World, x: np.ndarray, t: int, c: int) -> np.ndarray:
    """ε*(x, t, c): the mean over the posterior of a label's Gaussians, of all for ∅."""
    a = ALPHA_BAR[t]
    each = [math.sqrt(1 - a) * (x - math.sqrt(a) * np.array(m)) / (a * v + 1 - a)
            for m, v in zip(world.mean, world.variance, strict=True)]  # fmt: skip
    of = world.concepts[c] if c < K else range(3)
    p = posterior(world, x, t)
    return sum(p[m] * each[m] for m in of) / sum(p[m] for m in of)


def seen(world: World, x: np.ndarray, t: int, c: int) -> float:
    """p_t(c|x) of a label."""
    return float(sum(posterior(world, x, t)[m] for m in world.concepts[c]))


def judged(world: World, x: np.ndarray) -> int:
    return int(posterior(world, x, 0).argmax())


def held_true(world: World, x: np.ndarray) -> list[bool]:
    """Of each label: of classes the likeliest is, of concepts what is more likely than not."""
    if world.exclusive:
        return [judged(world, x) == k for k in range(K)]
    return [seen(world, x, 0, k) > 0.5 for k in range(K)]


def visited(S: int) -> list[int]:
    return [round(T * (S - k) / S) for k in range(S)]


def states(predictor, x: np.ndarray, S: int) -> list[np.ndarray]:
    """DDIM with η = 0 from x_T: predictor(k, x, t) is asked at step k. All S + 1 states."""
    found, times = [x], [*visited(S), 0]
    for k in range(S):
        a, b = ALPHA_BAR[times[k]], ALPHA_BAR[times[k + 1]]
        e = predictor(k, x, times[k])
        x_0 = ((x - math.sqrt(1 - a) * e) / math.sqrt(a)).clip(-1, 1)
        x = math.sqrt(b) * x_0 + math.sqrt(1 - b) * (x - math.sqrt(a) * x_0) / math.sqrt(1 - a)
        found.append(x)
    return found


def noise(n: int, seed: int) -> np.ndarray:
    x_T = torch.randn(n, 3, 1, 1, generator=torch.Generator().manual_seed(seed))
    return x_T.double().flatten(1).numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    A, B = np.cov(a.T), np.cov(b.T)
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(mean + np.trace(A + B - 2 * sqrtm(A @ B).real))


def covered(points: np.ndarray, centres: np.ndarray, k: int = 3) -> float:
    """Share of the points that lie in a ball of the centres' manifold."""
    distance = lambda p, q: math.dist(p.tolist(), q.tolist())  # noqa: E731
    radius = [sorted(distance(q, r) for r in centres)[k] for q in centres]
    inside = [any(distance(p, q) <= r for q, r in zip(centres, radius, strict=True))
              for p in points]  # fmt: skip
    return sum(inside) / len(points)


def diversity(features: np.ndarray, c: np.ndarray) -> float:
    means = []
    for k in sorted(set(c.tolist())):
        of = features[c == k]
        pairs = [math.dist(of[i], of[j]) for i in range(len(of)) for j in range(i)]
        means.append(sum(pairs) / len(pairs))
    return sum(means) / len(means)
