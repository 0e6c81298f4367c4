"""The variational bound on −log p_θ(x_0), term by term. DDPM Eq. 5, 8, 12, 13."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.checked import checked
from ddpm.checks import GridImages, Variance
from ddpm.forward import noise_like, q_posterior, q_sample
from ddpm.loss import Predictor
from ddpm.reverse import reverse_mean
from ddpm.schedule import Schedule

ONE = torch.ones((), dtype=torch.float64)  # the variance of p(x_T)


class Bound(NamedTuple):
    """The terms of DDPM Eq. 5 per image, in bits per dimension."""

    L_T: Tensor  # (B,) what is left of the image in x_T
    L_t: Tensor  # (B, T-1) L_{t−1} for t = 2, …, T: column j is L_{j+1}, t = j + 2
    L_0: Tensor  # (B,) the discrete decoder

    @property
    def total(self) -> Tensor:
        """L = L_T + Σ_{t>1} L_{t−1} + L_0, (B,): an upper bound on the code length."""
        return self.L_T + self.L_t.sum(1) + self.L_0


@checked
@torch.no_grad()
def variational_bound(
    schedule: Schedule,
    eps: Predictor,
    x_0: GridImages,
    *,
    variance: Variance = "beta",
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
    sigma_squared = schedule.beta  # (T+1,)
    if variance == "posterior":
        if schedule.T < 2:
            raise ValueError(f"variance 'posterior' needs T ≥ 2, got T = {schedule.T}")
        sigma_squared = schedule.posterior_variance.clone()
        sigma_squared[1] = sigma_squared[2]

    kl = []
    for t in range(schedule.T, 0, -1):
        t_b = torch.full((len(x_0),), t, device=x_0.device)
        x_t = q_sample(schedule, x_0, t, noise_like(x_0, generator))
        mean = reverse_mean(schedule, x_t, t, eps(x_t, t_b))
        p_variance = sigma_squared[t]
        if t > 1:
            q_mean, q_variance = q_posterior(schedule, x_0, x_t, t)
            kl.append(per_image(gaussian_kl(q_mean, q_variance, mean, p_variance)))
    L_0 = -per_image(discrete_log_likelihood(x_0, mean, p_variance, levels))

    alpha_bar_T = schedule.alpha_bar[-1]
    L_T = gaussian_kl(alpha_bar_T.sqrt() * x_0, 1 - alpha_bar_T, torch.zeros_like(x_0), ONE)
    L_t = torch.stack(kl[::-1], dim=1) if kl else x_0.new_zeros(len(x_0), 0)
    return Bound(*(term / math.log(2) for term in (per_image(L_T), L_t, L_0)))


def per_image(values: Tensor) -> Tensor:
    """The mean over the dimensions of each image: (B, ...) -> (B,)."""
    return values.reshape(len(values), -1).mean(1)


def gaussian_kl(q_mean: Tensor, q_variance: Tensor, p_mean: Tensor, p_variance: Tensor) -> Tensor:
    """KL(N(m_q, v_q) ‖ N(m_p, v_p)) = ½·(log(v_p/v_q) + v_q/v_p − 1 + (m_q − m_p)²/v_p)

    The terms of DDPM Eq. 5. Variances that do not depend on θ leave the last summand to train:
    DDPM Eq. 8, 9, 10, 12 (12 with the means of Eq. 7 and 11). Element by element, in nats.
    """
    ratio = q_variance / p_variance
    return 0.5 * (ratio - 1 - ratio.log() + (q_mean - p_mean) ** 2 / p_variance)


@checked
def discrete_log_likelihood(x_0: GridImages, mean: Tensor, variance: Tensor, levels: int) -> Tensor:
    """log ∫_{δ−(x_0)}^{δ+(x_0)} N(x; μ_θ(x_1, 1), σ_1²) dx,  δ±(x) = x ± 1/(levels − 1)

    DDPM Eq. 13; the bins of −1 and 1 reach to ∓∞. Element by element, in nats.
    x_0, mean: (B, ...); variance: broadcastable. In float64, and on the CPU: log Φ is not to be
    had on every device.
    """
    answer_like = x_0
    x_0, mean, sigma = (v.cpu().double() for v in (x_0, mean, variance.sqrt()))
    grid = (x_0 + 1) / 2 * (levels - 1)  # 0..levels−1
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
