"""What the tests are held against: exact worlds, and the exact moments of an affine sampler."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ddpm import GaussianMixture, Schedule
from ddpm.reverse import Step
from guidance import class_log_prob
from unet import NoisyClassifier


def normal(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def last(steps: Iterable[Step]) -> Step:
    *_, final = steps
    return final


def three_in_the_plane() -> GaussianMixture:
    """Three correlated Gaussians in the plane, unequal weights."""
    root = torch.tensor(
        [[[0.5, 0.0], [0.3, 0.4]], [[0.7, 0.0], [-0.2, 0.3]], [[0.3, 0.0], [0.0, 0.6]]],
        dtype=torch.float64,
    )
    return GaussianMixture(
        mean=torch.tensor([[-1.0, 0.5], [1.2, 0.8], [0.1, -1.0]], dtype=torch.float64),
        covariance=root @ root.mT,
        weight=torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
    )


def three_on_a_line(weight: tuple[float, ...] = (1.0, 1.0, 1.0)) -> GaussianMixture:
    """Three Gaussians on a line, at −3, 0 and 3 with variance 0.25."""
    return GaussianMixture(
        mean=torch.tensor([[-3.0], [0.0], [3.0]], dtype=torch.float64),
        covariance=torch.full((3,), 0.25, dtype=torch.float64),
        weight=torch.tensor(weight, dtype=torch.float64),
    )


def log_posterior_of(mixture: GaussianMixture, schedule: Schedule, y: int | Tensor):
    """log p(y|x_t) as a perfect noisy classifier knows it."""
    return class_log_prob(lambda x_t, t: mixture.log_posterior(schedule, x_t, t), y)


def perturbed_classifier() -> NoisyClassifier:
    """No parameter at 0, as after training."""
    torch.manual_seed(0)
    model = NoisyClassifier(size=8, width=8, multipliers=(1, 2), attention=(4,)).eval()
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return model


class Spy:
    """A conditional predictor that counts its calls and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, x_t: Tensor, t: Tensor, c: Tensor) -> Tensor:
        self.calls.append((x_t.clone(), t.clone(), c.clone()))
        return x_t * (1 + c.view(-1, *[1] * (x_t.ndim - 1)))


def moments(
    process: Iterable[Step], x_T: Tensor, replay: torch.Generator
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(t, mean, covariance) after each update of a sampler on a Gaussian, free of sampling error.

    There every update is affine, x_{t−1} = A·x_t + b + Σ^½·z, and x_T ~ N(0, I). A few paths x_T
    (B, D), with the same z drawn once more from `replay`, tell A, b and Σ^½; more paths than
    unknowns tell whether it is so. Then mean ← A·mean + b and covariance ← A·covariance·Aᵀ + Σ.
    """
    B, D = x_T.shape
    assert B > 2 * D + 1
    mean, covariance = x_T.new_zeros(D), torch.eye(D, dtype=x_T.dtype)
    x, one = x_T, x_T.new_ones(B, 1)
    for step in process:
        z = torch.randn(B, D, generator=replay, dtype=x_T.dtype)
        known = torch.cat([x, one, z], dim=1)  # (B, 2D+1)
        rows = torch.linalg.lstsq(known, step.x).solution
        assert (known @ rows - step.x).abs().max() < 1e-9, f"not affine at t = {step.t}"
        A, b, root = rows[:D].T, rows[D], rows[D + 1 :].T
        mean, covariance = A @ mean + b, A @ covariance @ A.T + root @ root.T
        yield step.t, mean, covariance
        x = step.x
