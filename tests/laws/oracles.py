"""What the tests are held against: exact worlds, and the exact moments of an affine sampler."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from ddpm import GaussianMixture, Schedule, Step
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


def log_posterior_of(
    mixture: GaussianMixture, schedule: Schedule, y: int | Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
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
    process: Iterable[Step], x_T: Tensor, replay: torch.Generator, groups: int = 1
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(t, mean, covariance) after each update of a sampler on a Gaussian, free of sampling error.

    There every update is affine, x_{t−1} = A·x_t + b + Σ^½·z, and x_T ~ N(0, I). A few paths x_T
    (B, D), with the same z drawn once more from `replay`, tell A, b and Σ^½; more paths than
    unknowns tell whether it is so. Then mean ← A·mean + b and covariance ← A·covariance·Aᵀ + Σ.
    The paths may be of several affine processes, one after the other: mean (groups, D, 1),
    covariance (groups, D, D).
    """
    x, D = x_T.unflatten(0, (groups, -1)), x_T.shape[1]  # (G, B, D)
    assert x.shape[1] > 2 * D + 1
    mean, covariance = x.new_zeros(groups, D, 1), torch.eye(D, dtype=x.dtype)
    for step in process:
        z = torch.randn(x_T.shape, generator=replay, dtype=x.dtype).view_as(x)
        known = torch.cat([x, torch.ones_like(x[..., :1]), z], dim=2)  # (G, B, 2D+1)
        x = step.x.view_as(x)
        rows = torch.linalg.lstsq(known, x).solution  # (G, 2D+1, D)
        assert (known @ rows - x).abs().max() < 1e-9, f"not affine at t = {step.t}"
        A, b, root = rows[:, :D].mT, rows[:, D, :, None], rows[:, D + 1 :].mT
        mean, covariance = A @ mean + b, A @ covariance @ A.mT + root @ root.mT
        yield step.t, mean, covariance
