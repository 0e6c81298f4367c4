"""The variational bound on −log p_θ(x_0), term by term. DDPM Eq. 5, 8, 12, 13."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.forward import check_batches, noise_like, q_posterior, q_sample
from ddpm.loss import Predictor
from ddpm.reverse import reverse_mean
from ddpm.schedule import Schedule, integer


class Bound(NamedTuple):
    """The terms of DDPM Eq. 5 per image, in bits per dimension."""

    L_T: Tensor  # (B,) what is left of the image in x_T
    L_t: Tensor  # (B, T-1) L_{t−1} for t = 2, …, T: column j is L_{j+1}, t = j + 2
    L_0: Tensor  # (B,) the discrete decoder

    @property
    def total(self) -> Tensor:
        """L = L_T + Σ_{t>1} L_{t−1} + L_0, (B,): an upper bound on the code length."""
        return self.L_T + self.L_t.sum(1) + self.L_0


@torch.no_grad()
def variational_bound(
    schedule: Schedule,
    eps: Predictor,
    x_0: Tensor,
    *,
    variance: str = "beta",
    levels: int = 256,
    generator: torch.Generator | None = None,
) -> Bound:
    """L = E_q[ KL(q(x_T|x_0) ‖ p(x_T)) + Σ_{t>1} KL(q(x_{t−1}|x_t, x_0) ‖ p_θ(x_{t−1}|x_t))
             − log p_θ(x_0|x_1) ]

    DDPM Eq. 3, 5, 16 (three ways to write it), here Eq. 5. Σ_θ = σ_t²·I with σ_t² = β_t ("beta")
    or β̃_t ("posterior"; β̃_1 = 0 can't decode, so σ_1² = β̃_2, as in DDPM's experiments).
    One ε per image and t, so T calls of eps.
    x_0: (B, ...) on the grid of `levels` values in [-1, 1]. Returns a Bound in bits/dim.
    """
    if variance not in ("beta", "posterior"):
        raise ValueError(f"variance must be 'beta' or 'posterior', got {variance!r}")
    if variance == "posterior" and schedule.T < 2:
        raise ValueError(f"variance 'posterior' needs T ≥ 2, got T = {schedule.T}")
    on_grid(x_0, levels)
    if x_0.ndim < 2:
        raise ValueError(f"x_0 must be (B, ...), got {tuple(x_0.shape)}")
    sigma_squared = schedule.beta.clone()  # (T+1,)
    if variance == "posterior":
        sigma_squared = schedule.posterior_variance.clone()
        sigma_squared[1] = sigma_squared[2]

    kl = []
    for step in range(schedule.T, 0, -1):
        t = torch.full((len(x_0),), step, device=x_0.device)
        noise = noise_like(x_0, generator)
        x_t = q_sample(schedule, x_0, t, noise)
        mean = reverse_mean(schedule, x_t, t, eps(x_t, t))
        p_variance = schedule.at(sigma_squared, t, x_0)
        if step > 1:
            q_mean, q_variance = q_posterior(schedule, x_0, x_t, t)
            kl.append(gaussian_kl(q_mean, q_variance, mean, p_variance).flatten(1).mean(1))
    L_0 = -discrete_log_likelihood(x_0, mean, p_variance, levels).flatten(1).mean(1)

    T = torch.full((len(x_0),), schedule.T, device=x_0.device)
    q_mean = schedule.at(schedule.alpha_bar.sqrt(), T, x_0) * x_0
    q_variance = schedule.at(1 - schedule.alpha_bar, T, x_0)
    L_T = gaussian_kl(q_mean, q_variance, torch.zeros_like(x_0), torch.ones_like(q_variance))
    L_t = torch.stack(kl[::-1], dim=1) if kl else x_0.new_zeros(len(x_0), 0)
    return Bound(*(term / math.log(2) for term in (L_T.flatten(1).mean(1), L_t, L_0)))


def gaussian_kl(q_mean: Tensor, q_variance: Tensor, p_mean: Tensor, p_variance: Tensor) -> Tensor:
    """KL(N(m_q, v_q) ‖ N(m_p, v_p)) = ½·(log(v_p/v_q) + v_q/v_p − 1 + (m_q − m_p)²/v_p)

    The terms of DDPM Eq. 5. Variances that do not depend on θ leave the last summand to train:
    DDPM Eq. 8, 9, 10, 12 (12 with the means of Eq. 7 and 11). Element by element, in nats.
    """
    ratio = q_variance / p_variance
    return 0.5 * (ratio - 1 - ratio.log() + (q_mean - p_mean) ** 2 / p_variance)


def discrete_log_likelihood(x_0: Tensor, mean: Tensor, variance: Tensor, levels: int) -> Tensor:
    """log ∫_{δ−(x_0)}^{δ+(x_0)} N(x; μ_θ(x_1, 1), σ_1²) dx,  δ±(x) = x ± 1/(levels − 1)

    DDPM Eq. 13; the bins of −1 and 1 reach to ∓∞. Element by element, in nats.
    x_0, mean: (B, ...); variance: broadcastable. In float64, and on the CPU: log Φ is not to be
    had on every device.
    """
    answer_like = x_0
    x_0, mean, sigma = (v.cpu().double() for v in (x_0, mean, variance.sqrt()))
    grid = on_grid(x_0, levels)
    half = 1 / (levels - 1)
    upper, lower = (x_0 + half - mean) / sigma, (x_0 - half - mean) / sigma
    # Φ(b) − Φ(a) = Φ(−a) − Φ(−b): the side on which neither term is close to 1 keeps its digits.
    flip = lower > 0
    a, b = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_cdf_a, log_cdf_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    inside = log_cdf_b + torch.log(-torch.expm1(log_cdf_a - log_cdf_b))
    first, last = torch.special.log_ndtr(upper), torch.special.log_ndtr(-lower)
    log_p = torch.where(grid < 0.5, first, torch.where(grid > levels - 1.5, last, inside))
    return log_p.to(answer_like.dtype).to(answer_like.device)


def on_grid(x_0: Tensor, levels: int) -> Tensor:
    """x_0 in units of the grid, 0..levels−1. ValueError if it lies off the grid."""
    check_batches(x_0=x_0)
    if x_0.is_meta or not x_0.numel():
        raise ValueError(f"x_0 must hold values, got {tuple(x_0.shape)} on {x_0.device}")
    count = integer(levels)
    if count is None or not 2 <= count <= 65_536:
        raise ValueError(f"levels must be an integer in 2..65536, got {levels!r:.80}")
    grid = (x_0 + 1) / 2 * (levels - 1)
    off = (grid - grid.round()).abs().max() > 1e-3 or x_0.abs().max() > 1 + 1e-6
    if off or not bool(x_0.isfinite().all()):
        raise ValueError(f"x_0 must lie on the grid of {levels} levels in [-1, 1]")
    return grid
