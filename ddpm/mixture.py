"""A Gaussian mixture whose noise predictor ε* is known exactly at every t.

The oracle of the tests, and a toy world to try guidance in: where a trained U-Net is only as good
as its training, everything here is a closed form.
"""

import functools
import math
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from ddpm.checks import Images, Labels, TimesOrClean, checked, look_at_images, whole
from ddpm.forward import noise_like
from ddpm.schedule import Schedule


class GaussianMixture:
    """p(x_0) = Σ_k π_k·N(x_0; m_k, C_k): class k is one Gaussian.

    Noising keeps it a mixture (DDPM Eq. 4): p_t(x_t|k) = N(√ᾱ_t·m_k, ᾱ_t·C_k + (1 − ᾱ_t)·I).
    mean: (K, ...), any shape of image or vector; covariance: (K,) variances (isotropic) or
    (K, D, D) matrices over the flattened image; weight: (K,), positive, default uniform.
    """

    def __init__(self, mean: Tensor, covariance: Tensor, weight: Tensor | None = None) -> None:
        weight = mean.new_ones(len(mean)) if weight is None else weight
        check_mixture(mean, covariance, weight)
        K, D = len(mean), mean[0].numel()
        self.classes, self.shape, self.null_token = K, mean.shape[1:], K
        self.mean = mean.flatten(1)  # (K, D)
        self.log_weight = (weight / weight.sum()).log()  # (K,)
        # C_k = U diag(λ) Uᵀ: with noise added only λ changes, so one decomposition serves all t.
        if covariance.ndim == 1:
            self.lam, self.U = covariance[:, None].expand(K, D), None
        else:
            self.lam, self.U = torch.linalg.eigh(covariance)  # (K, D), (K, D, D)
        if not bool((self.lam > 0).all()):
            raise ValueError("covariance must be positive (symmetric, definite) for every class")

    @checked
    def sample(
        self, n: Annotated[int, whole(1, 10_000_000)], generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """n images x_0 (n, ...) and their classes c (n,)."""
        c = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator)
        z = noise_like(self.mean.new_empty(n, self.mean.shape[1]), generator)
        z = self.lam[c].sqrt() * z  # (n, D), in the eigenbasis
        if self.U is not None:
            z = torch.einsum("nij,nj->ni", self.U[c], z)
        return (self.mean[c] + z).unflatten(1, self.shape), c

    @checked
    def log_prob(
        self, schedule: Schedule, x_t: Images, t: TimesOrClean, c: Labels = None
    ) -> Tensor:
        """log p_t(x_t), or log p_t(x_t|c) where c (B,) names a class; ∅ = K. Returns (B,)."""
        log_p_k = self._log_likelihoods(schedule, x_t, t)  # (B, K)
        log_p_null = (self.log_weight.to(x_t) + log_p_k).logsumexp(1, keepdim=True)
        log_p = torch.cat([log_p_k, log_p_null], dim=1)  # (B, K+1)
        return log_p.gather(1, self._token(c, x_t)[:, None]).squeeze(1)

    @checked
    def log_posterior(self, schedule: Schedule, x_t: Images, t: TimesOrClean) -> Tensor:
        """log p_t(k|x_t) for every class k, by Bayes' rule: what a perfect noisy classifier says.

        x_t: (B, ...); t: (B,) in 0..T. Returns (B, K).
        """
        log_p_k = self._log_likelihoods(schedule, x_t, t)  # (B, K)
        return (self.log_weight.to(x_t) + log_p_k).log_softmax(1)

    def eps(self, schedule: Schedule) -> Callable[..., Tensor]:
        """ε*(x_t, t, c) = E[ε | x_t, c] = −√(1 − ᾱ_t)·∇log p_t(x_t|c), exact; c=None is ∅.

        ADM Eq. 11; ε*(∅) = Σ_k p_t(k|x_t)·ε*(k). Returns eps(x_t, t, c=None) -> (B, ...).
        """
        return functools.partial(self._eps, schedule)

    @checked
    def _eps(self, schedule: Schedule, x_t: Images, t: TimesOrClean, c: Labels = None) -> Tensor:
        z, variance = self._whitened(schedule, x_t, t)  # (B, K, D)
        sigma = schedule.at((1 - schedule.alpha_bar).sqrt(), t, z)  # (B, 1, 1)
        eps_k = self._rotate(sigma * z / variance)  # (B, K, D)
        p_k = self.log_posterior(schedule, x_t, t).exp()  # (B, K)
        eps_null = torch.einsum("bk,bkd->bd", p_k, eps_k)
        every = torch.cat([eps_k, eps_null[:, None]], dim=1)  # (B, K+1, D)
        chosen = every[torch.arange(len(x_t), device=x_t.device), self._token(c, x_t)]
        return chosen.view_as(x_t)

    def _whitened(self, schedule: Schedule, x_t: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """x_t − √ᾱ_t·m_k in the eigenbasis of C_k, and its variances there: both (B, K, D)."""
        if x_t.shape[1:] != self.shape:
            raise ValueError(f"x_t must be (B, *{tuple(self.shape)}), got {tuple(x_t.shape)}")
        alpha_bar = schedule.alpha_bar  # (T+1,)
        flat = x_t.flatten(1)[:, None]  # (B, 1, D)
        mean, lam = self.mean.to(flat), self.lam.to(flat)
        z = flat - schedule.at(alpha_bar.sqrt(), t, flat) * mean  # (B, K, D)
        if self.U is not None:
            z = torch.einsum("kij,bki->bkj", self.U.to(flat), z)
        variance = schedule.at(alpha_bar, t, flat) * lam + schedule.at(1 - alpha_bar, t, flat)
        return z, variance

    def _rotate(self, z: Tensor) -> Tensor:
        """Back from the eigenbasis of each class: (B, K, D)."""
        return z if self.U is None else torch.einsum("kij,bkj->bki", self.U.to(z), z)

    def _log_likelihoods(self, schedule: Schedule, x_t: Tensor, t: Tensor | int) -> Tensor:
        """log p_t(x_t|k), (B, K)."""
        z, variance = self._whitened(schedule, x_t, t)
        return -0.5 * (z**2 / variance + variance.log() + math.log(2 * math.pi)).sum(2)

    def _token(self, c: Tensor | None, x_t: Tensor) -> Tensor:
        """c as (B,) int64, ∅ where it is None."""
        return (
            torch.full((len(x_t),), self.null_token, device=x_t.device) if c is None else c.long()
        )


def check_mixture(mean: Tensor, covariance: Tensor, weight: Tensor) -> None:
    """mean (K, ...), covariance (K,) or (K, D, D), weight (K,): finite, symmetric, positive."""
    for name, value in {"mean": mean, "covariance": covariance, "weight": weight}.items():
        look_at_images(name, value, {name: value})
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} must hold finite numbers")
    if mean.ndim < 2:
        raise ValueError(f"mean must be (K, ...), one for each class, got {tuple(mean.shape)}")
    K, D = len(mean), mean[0].numel()
    if covariance.shape not in ((K,), (K, D, D)):
        raise ValueError(f"covariance must be ({K},) or ({K}, {D}, {D}) for this mean, "
                         f"got {tuple(covariance.shape)}")  # fmt: skip
    if covariance.ndim > 1 and not torch.allclose(covariance, covariance.mT):
        raise ValueError("covariance must be positive (symmetric, definite) for every class")
    if weight.shape != (K,) or not bool((weight > 0).all()):
        raise ValueError(f"weight must hold {K} positive numbers, got {weight}")
