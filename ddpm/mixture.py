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

from ddpm.checked import checked
from ddpm.checks import Images, Labels, TimesOrClean, look_at_images, whole
from ddpm.forward import noise_like
from ddpm.schedule import Schedule


class GaussianMixture:
    """p(x_0) = Σ_m π_m·N(x_0; μ_m, C_m), and concepts: which of the Gaussians a label is true of.

    p(x_0|k) is the mixture of concept k's Gaussians alone, ∅ = K is all of them. By default each
    is a class of its own. Noising keeps it a mixture (DDPM Eq. 4):
    p_t(x_t|m) = N(√ᾱ_t·μ_m, ᾱ_t·C_m + (1 − ᾱ_t)·I).
    mean: (M, ...), any shape of image or vector; covariance: (M,) variances (isotropic) or
    (M, D, D) matrices over the flattened image; weight: (M,), positive, default uniform;
    concepts: (K, M) bool, in which labels may overlap.
    """

    def __init__(
        self,
        mean: Tensor,
        covariance: Tensor,
        weight: Tensor | None = None,
        concepts: Tensor | None = None,
    ) -> None:
        weight = mean.new_ones(len(mean)) if weight is None else weight
        check_mixture(mean, covariance, weight)
        M, D = len(mean), mean[0].numel()
        if concepts is None:
            concepts = torch.eye(M, dtype=torch.bool)
        check_concepts(concepts, M)
        self.concepts, self.classes, self.null_token = concepts, len(concepts), len(concepts)
        self.shape, self.mean = mean.shape[1:], mean.flatten(1)  # (M, D)
        self.log_weight = (weight / weight.sum()).log()  # (M,)
        # log p(m|k), −inf where k is not true of m; the last row is ∅'s: (K+1, M)
        true = torch.where(concepts.to(mean.device), weight, 0)
        within = (true / true.sum(1, keepdim=True)).log()
        self.log_weight_given = torch.cat([within, self.log_weight[None]])
        # C_m = U diag(λ) Uᵀ: with noise added only λ changes, so one decomposition serves all t.
        if covariance.ndim == 1:
            self.lam, self.U = covariance[:, None].expand(M, D), None
        else:
            self.lam, self.U = torch.linalg.eigh(covariance)  # (M, D), (M, D, D)
        if not bool((self.lam > 0).all()):
            raise ValueError("covariance must be positive (symmetric, definite) for every Gaussian")

    @checked
    def sample(
        self, n: Annotated[int, whole(1, 10_000_000)], generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """n images x_0 (n, ...) and which of the M Gaussians each is from (n,): its class.

        With concepts, `mixture.concepts[:, m].T` says what is true of each: (n, K).
        """
        m = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator)
        z = noise_like(self.mean.new_empty(n, self.mean.shape[1]), generator)
        z = self.lam[m].sqrt() * z  # (n, D), in the eigenbasis
        if self.U is not None:
            z = torch.einsum("nij,nj->ni", self.U[m], z)
        return (self.mean[m] + z).unflatten(1, self.shape), m

    @checked
    def log_prob(
        self, schedule: Schedule, x_t: Images, t: TimesOrClean, c: Labels = None
    ) -> Tensor:
        """log p_t(x_t), or log p_t(x_t|c) where c (B,) names a label; ∅ = K. Returns (B,)."""
        return self._log_joint(*self._whitened(schedule, x_t, t), c).logsumexp(1)

    @checked
    def log_posterior(self, schedule: Schedule, x_t: Images, t: TimesOrClean) -> Tensor:
        """log p_t(k|x_t) for every label k, by Bayes' rule: what a perfect noisy classifier says.

        x_t: (B, ...); t: (B,) in 0..T. Returns (B, K). Of classes they sum to 1, of concepts they
        need not: several may be true.
        """
        log_p_m = self._log_joint(*self._whitened(schedule, x_t, t)).log_softmax(1)  # (B, M)
        true = self.concepts.to(log_p_m.device)
        return torch.where(true, log_p_m[:, None], -math.inf).logsumexp(2)

    def eps(self, schedule: Schedule) -> Callable[..., Tensor]:
        """ε*(x_t, t, c) = E[ε | x_t, c] = −√(1 − ᾱ_t)·∇log p_t(x_t|c), exact; c=None is ∅.

        ADM Eq. 11; ε*(c) = Σ_m p_t(m|x_t, c)·ε*(m). Returns eps(x_t, t, c=None) -> (B, ...).
        """
        return functools.partial(self._eps, schedule)

    @checked
    def _eps(self, schedule: Schedule, x_t: Images, t: TimesOrClean, c: Labels = None) -> Tensor:
        z, variance = self._whitened(schedule, x_t, t)  # (B, M, D)
        sigma = schedule.at((1 - schedule.alpha_bar).sqrt(), t, z)  # (B, 1, 1)
        eps_m = self._rotate(sigma * z / variance)  # (B, M, D)
        p_m = self._log_joint(z, variance, c).log_softmax(1).exp()  # (B, M)
        return torch.einsum("bm,bmd->bd", p_m, eps_m).view_as(x_t)

    def _whitened(self, schedule: Schedule, x_t: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """x_t − √ᾱ_t·μ_m in the eigenbasis of C_m, and its variances there: both (B, M, D)."""
        if x_t.shape[1:] != self.shape:
            raise ValueError(f"x_t must be (B, *{tuple(self.shape)}), got {tuple(x_t.shape)}")
        alpha_bar = schedule.alpha_bar  # (T+1,)
        flat = x_t.flatten(1)[:, None]  # (B, 1, D)
        mean, lam = self.mean.to(flat), self.lam.to(flat)
        z = flat - schedule.at(alpha_bar.sqrt(), t, flat) * mean  # (B, M, D)
        if self.U is not None:
            z = torch.einsum("mij,bmi->bmj", self.U.to(flat), z)
        variance = schedule.at(alpha_bar, t, flat) * lam + schedule.at(1 - alpha_bar, t, flat)
        return z, variance

    def _rotate(self, z: Tensor) -> Tensor:
        """Back from the eigenbasis of each Gaussian: (B, M, D)."""
        return z if self.U is None else torch.einsum("mij,bmj->bmi", self.U.to(z), z)

    def _log_joint(self, z: Tensor, variance: Tensor, c: Tensor | None = None) -> Tensor:
        """log p_t(x_t, m|c), (B, M): what a label leaves of each Gaussian."""
        log_p_m = -0.5 * (z**2 / variance + variance.log() + math.log(2 * math.pi)).sum(2)
        token = self.null_token if c is None else c.long()
        return self.log_weight_given.to(z)[token] + log_p_m


def check_mixture(mean: Tensor, covariance: Tensor, weight: Tensor) -> None:
    """mean (M, ...), covariance (M,) or (M, D, D), weight (M,): finite, symmetric, positive."""
    for name, value in {"mean": mean, "covariance": covariance, "weight": weight}.items():
        look_at_images(name, value, {name: value})
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} must hold finite numbers")
    if mean.ndim < 2:
        raise ValueError(f"mean must be (M, ...), one for each Gaussian, got {tuple(mean.shape)}")
    M, D = len(mean), mean[0].numel()
    if covariance.shape not in ((M,), (M, D, D)):
        raise ValueError(f"covariance must be ({M},) or ({M}, {D}, {D}) for this mean, "
                         f"got {tuple(covariance.shape)}")  # fmt: skip
    if covariance.ndim > 1 and not torch.allclose(covariance, covariance.mT):
        raise ValueError("covariance must be positive (symmetric, definite) for every Gaussian")
    if weight.shape != (M,) or not bool((weight > 0).all()):
        raise ValueError(f"weight must hold {M} positive numbers, got {weight}")


def check_concepts(concepts: Tensor, M: int) -> None:
    """(K, M) bools, of which each row has one that is true."""
    if not isinstance(concepts, Tensor) or concepts.dtype != torch.bool:
        raise TypeError(f"concepts must be a tensor of bools, got {concepts!r:.80}")
    if concepts.ndim != 2 or concepts.shape[1] != M or not len(concepts):
        raise ValueError(f"concepts must be (K, {M}), a row for each concept and a column for each "
                         f"Gaussian, got {tuple(concepts.shape)}")  # fmt: skip
    if not bool(concepts.any(1).all()):
        empty = int((~concepts.any(1)).nonzero()[0])
        raise ValueError(f"concepts must be true of a Gaussian each, and {empty} is true of none")
