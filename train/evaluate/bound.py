"""The variational bound of a trained model on real images, in bits/dim."""

import math

import torch
from scipy.stats import t as student_t
from torch import Tensor
from tqdm import tqdm

from ddpm import variational_bound
from guidance.app.guides import none
from train.evaluate.lab import Lab


def bound_terms(lab: Lab, n: int, seed: int, variance: str) -> Tensor:
    """L_T, the sum of L_1 … L_{T−1}, and L_0 (DDPM Eq. 5) of n held-out images: (n, 3)."""
    data, schedule = lab.data, lab.models.schedule
    images = torch.split(data.scale(data.test_images[:n]).to(lab.device), lab.batch_size)
    labels = torch.split(data.test_labels[:n].to(lab.device), lab.batch_size)
    generator = torch.Generator().manual_seed(seed)
    terms = []
    with tqdm(total=schedule.T * len(images), desc=variance, leave=False, unit="pass",
              disable=None) as bar:  # fmt: skip
        for x_0, c in zip(images, labels, strict=True):

            def eps(x_t: Tensor, t: Tensor, c: Tensor = c) -> Tensor:
                bar.update()
                return none()(lab.models, c)(x_t, t)

            parts = variational_bound(
                schedule, eps, x_0, variance=variance, levels=data.levels, generator=generator
            )
            terms.append(torch.stack([parts.L_T, parts.L_t.sum(1), parts.L_0], dim=1).cpu())
    return torch.cat(terms)


def print_bound(lab: Lab, n: int, seed: int) -> dict[str, float]:
    """A line for σ² = β_t and one for β̃_t; their means by the name of the variance."""
    levels, means = lab.data.levels, {}
    print(
        f"{n} held-out images of {lab.data.name}; bits/dim, ± is the 95 % interval over images; "
        f"{levels} grey levels cost {math.log2(levels):.3f} without a model"
    )
    print(f"{'σ²':10} {'L_T':>9} {'L_1..L_{T-1}':>13} {'L_0':>7} {'L':>7}")
    for variance in ("beta", "posterior"):
        terms = bound_terms(lab, n, seed, variance)
        (L_T, L_t, L_0), total = terms.mean(0).tolist(), terms.sum(1)
        means[variance] = float(total.mean())
        half = student_t.ppf(0.975, n - 1) * float(total.std()) / math.sqrt(n)
        print(f"{variance:10} {L_T:9.6f} {L_t:13.4f} {L_0:7.4f} {means[variance]:7.4f} "
              f"± {half:.4f}")  # fmt: skip
    return means
