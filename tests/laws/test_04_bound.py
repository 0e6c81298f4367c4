"""The variational bound: DDPM Eq. 3, 5, 8–10, 12, 13, 16."""

import math

import numpy as np
import pytest
import torch
from oracles import normal
from torch import distributions as D
from torch.testing import assert_close

from ddpm import (
    GaussianMixture,
    linear_schedule,
    predict_x_0,
    q_posterior,
    q_sample,
    reverse_mean,
    variational_bound,
)
from ddpm.bound import discrete_log_likelihood, gaussian_kl


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_four_forms_of_the_kl_are_one(schedule, variance):
    """DDPM Eq. 8, 9, 10, 12 are one, for a random ε_θ, every t > 1 and both σ²: the KL of
    torch.distributions less what does not depend on θ."""
    t = torch.arange(2, 1001)
    x_0, eps, eps_theta = (normal((999, 3), seed) for seed in range(3))
    x_t = q_sample(schedule, x_0, t, eps)
    alpha, alpha_bar = schedule.alpha[t][:, None], schedule.alpha_bar[t][:, None]
    beta = schedule.beta[t][:, None]
    table = schedule.beta if variance == "beta" else schedule.posterior_variance
    sigma_squared = table[t][:, None]

    q_mean, q_variance = q_posterior(schedule, x_0, x_t, t)
    mu = reverse_mean(schedule, x_t, t, eps_theta)
    kl = D.kl_divergence(D.Normal(q_mean, q_variance.sqrt()), D.Normal(mu, sigma_squared.sqrt()))
    C = 0.5 * (q_variance / sigma_squared - 1 - (q_variance / sigma_squared).log())
    eq_8 = (q_mean - mu) ** 2 / (2 * sigma_squared)
    nine, _ = q_posterior(schedule, predict_x_0(schedule, x_t, t, eps), x_t, t)
    eq_9 = (nine - mu) ** 2 / (2 * sigma_squared)
    ten = (x_t - beta / (1 - alpha_bar).sqrt() * eps) / alpha.sqrt()
    eq_10 = (ten - mu) ** 2 / (2 * sigma_squared)
    eq_12 = beta**2 / (2 * sigma_squared * alpha * (1 - alpha_bar)) * (eps - eps_theta) ** 2
    for form in (eq_8, eq_9, eq_10, eq_12):
        assert_close(kl - C, form, rtol=1e-6, atol=1e-9)
    assert_close(gaussian_kl(q_mean, q_variance, mu, sigma_squared), kl, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("levels", [17, 256])
def test_the_decoders_bins_sum_to_one(levels):
    """DDPM Eq. 13, for narrow and wide Gaussians, inside the range and beyond it."""
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)[:, None]
    mean = torch.tensor([-4.0, -1.0, -0.3, 0.0, 0.998, 2.5], dtype=torch.float64).expand(levels, 6)
    for sigma in (1e-3, 0.01, 0.3, 5.0):
        variance = torch.full_like(mean, sigma**2)
        log_p = discrete_log_likelihood(x.expand(levels, 6), mean, variance, levels)
        assert_close(log_p.exp().sum(0), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_decoders_bins_against_the_normal_distribution():
    """DDPM Eq. 13 as differences of torch's Φ, where these keep their digits."""
    normal_01 = D.Normal(torch.tensor(0.1, dtype=torch.float64), 0.4)
    values = torch.tensor([-1.0, -101 / 255, 0.2, 1.0], dtype=torch.float64)  # −1, 77, 153, 255
    log_p = discrete_log_likelihood(
        values, torch.full_like(values, 0.1), torch.full_like(values, 0.16), 256
    )
    half = torch.tensor(1 / 255, dtype=torch.float64)
    inside = [normal_01.cdf(v + half) - normal_01.cdf(v - half) for v in values[1:3]]
    edges = normal_01.cdf(-1 + half), 1 - normal_01.cdf(1 - half)  # they reach to infinity
    expected = torch.stack([edges[0], *inside, edges[1]]).log()
    assert_close(log_p, expected, rtol=0, atol=1e-12)


def test_the_decoder_keeps_its_digits_in_the_tails():
    """40 σ away Φ is 0 or 1 to every digit; there log p ≈ log(density × width of the bin)."""
    sigma = 0.01
    x = torch.tensor([77, 178], dtype=torch.float64) / 127.5 - 1  # ∓0.396
    log_p = discrete_log_likelihood(x, torch.zeros_like(x), torch.full_like(x, sigma**2), 256)
    grid = torch.linspace(-1 / 255, 1 / 255, 20_001, dtype=torch.float64)
    density = -0.5 * ((x[:, None] + grid) / sigma) ** 2
    expected = (density.logsumexp(1) + math.log((2 / 255) / 20_001)) - math.log(
        sigma * math.sqrt(2 * math.pi)
    )
    assert_close(log_p, expected, rtol=1e-3, atol=0)
    assert log_p.max() < -700


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_variational_bound_against_torch_distributions(schedule, variance):
    """Each term of DDPM Eq. 5 from the x_t that the bound itself visited, in bits/dim."""
    schedule = schedule.subsequence([400, 300, 150, 20, 1])  # so that L_T is not 0
    x_0 = torch.randint(0, 256, (3, 1, 2, 2), generator=torch.Generator().manual_seed(1))
    x_0 = x_0.double() / 127.5 - 1
    seen = {}

    def eps(x_t, t):
        seen[int(t[0])] = x_t
        return 0.9 * x_t + 0.05

    bound = variational_bound(
        schedule, eps, x_0, variance=variance, generator=torch.Generator().manual_seed(2)
    )
    assert sorted(seen) == [1, 2, 3, 4, 5]
    bits = 1 / (4 * math.log(2))
    alpha_bar = float(schedule.alpha_bar[5])
    prior = D.Normal(math.sqrt(alpha_bar) * x_0, math.sqrt(1 - alpha_bar))
    L_T = D.kl_divergence(prior, D.Normal(torch.zeros_like(x_0), 1.0)).sum((1, 2, 3)) * bits
    assert_close(bound.L_T, L_T, rtol=1e-9, atol=1e-13)
    total = L_T
    for t, x_t in seen.items():
        answer = 0.9 * x_t + 0.05
        beta, ab, previous = (
            float(v) for v in (schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1])
        )
        mean = (x_t - beta / math.sqrt(1 - ab) * answer) / math.sqrt(1 - beta)
        small = beta * (1 - previous) / (1 - ab)
        sigma = math.sqrt(beta if variance == "beta" else small)
        if t > 1:
            precision = 1 / (1 - previous) + (1 - beta) / beta
            m = math.sqrt(previous) * x_0 / (1 - previous) + math.sqrt(1 - beta) * x_t / beta
            q = D.Normal(m / precision, precision**-0.5)
            term = D.kl_divergence(q, D.Normal(mean, sigma)).sum((1, 2, 3)) * bits
            assert_close(bound.L_t[:, t - 2], term, rtol=1e-8, atol=1e-12)
        else:
            if variance == "posterior":  # β̃_1 = 0 decodes nothing; β̃_2 stands in
                sigma = math.sqrt(float(schedule.posterior_variance[2]))
            p = D.Normal(mean, sigma)
            upper = torch.where(x_0 > 0.999, 1.0, p.cdf(x_0 + 1 / 255))
            lower = torch.where(x_0 < -0.999, 0.0, p.cdf(x_0 - 1 / 255))
            term = -(upper - lower).log().sum((1, 2, 3)) * bits
            finite = torch.isfinite(term)  # this road loses its digits where ours does not
            assert finite.any()
            assert_close(bound.L_0[finite], term[finite], rtol=1e-5, atol=1e-9)
            term = bound.L_0
        total = total + term
    assert_close(bound.total, total, rtol=1e-8, atol=1e-12)
    assert bound.L_t.shape == (3, 4) and bound.L_0.shape == (3,)


def gaussian_chain(schedule, s_squared):
    """x_0 ~ N(0, s²): the mean a_t·x_t of p_θ with exact ε*, as `reverse_mean` gives it."""
    data = GaussianMixture(
        torch.zeros(1, 1, dtype=torch.float64), torch.tensor([s_squared], dtype=torch.float64)
    )
    t, one = torch.arange(1, schedule.T + 1), torch.ones(schedule.T, 1, dtype=torch.float64)
    a = reverse_mean(schedule, one, t, data.eps(schedule)(one, t)).flatten()
    return [math.nan, *a.tolist()]


def kl(q_variance, p_variance, squared_distance=0.0):
    """KL between scalar Gaussians, in nats, with the expected squared distance of their means."""
    return 0.5 * (
        math.log(p_variance / q_variance) + (q_variance + squared_distance) / p_variance - 1
    )


@pytest.mark.parametrize("sigma", ["beta", "optimal"])
def test_eq_16_is_eq_5_and_the_bound_is_tight(schedule, sigma):
    """DDPM Eq. 3, 5, 16 are one for Gaussian data, every expectation in closed form.

    With exact ε* and σ_t² = Var(x_{t−1}|x_t) nothing but L_T's marginal KL is lost: L = H(x_0).
    """
    s_squared = 0.5
    schedule = schedule.subsequence([1000, 800, 500, 200, 60, 10, 1])
    a, T = gaussian_chain(schedule, s_squared), schedule.T
    ab, beta = schedule.alpha_bar.tolist(), schedule.beta.tolist()
    v = [ab[t] * s_squared + 1 - ab[t] for t in range(T + 1)]  # Var(x_t)
    # q(x_{t−1}|x_t): regress x_{t−1} on x_t, whose covariance is √(1−β_t)·v_{t−1}
    slope = [math.nan] + [math.sqrt(1 - beta[t]) * v[t - 1] / v[t] for t in range(1, T + 1)]
    left = [math.nan] + [v[t - 1] - slope[t] ** 2 * v[t] for t in range(1, T + 1)]
    sigma_squared = beta if sigma == "beta" else left
    entropy = 0.5 * math.log(2 * math.pi * math.e * s_squared)

    eq_16 = kl(v[T], 1.0) + entropy
    for t in range(1, T + 1):
        eq_16 += kl(left[t], sigma_squared[t], (slope[t] - a[t]) ** 2 * v[t])

    eq_5 = kl(1 - ab[T], 1.0, ab[T] * s_squared)  # L_T
    for t in range(2, T + 1):
        x_0, x_t = torch.eye(2, dtype=torch.float64)[:, :, None]  # coefficients of μ̃ in (x_0, x_t)
        mean, variance = q_posterior(schedule, x_0, x_t, torch.full((2,), t))
        c_0, c_t = mean.flatten().tolist()
        d = c_t - a[t]  # E(c_0·x_0 + d·x_t)², with Cov(x_0, x_t) = √ᾱ·s²
        square = c_0**2 * s_squared + 2 * c_0 * d * math.sqrt(ab[t]) * s_squared + d**2 * v[t]
        eq_5 += kl(float(variance[0]), sigma_squared[t], square)
    residual = s_squared - 2 * a[1] * math.sqrt(ab[1]) * s_squared + a[1] ** 2 * v[1]
    eq_5 += 0.5 * (math.log(2 * math.pi * sigma_squared[1]) + residual / sigma_squared[1])

    # Eq. 3 itself: −E log p_θ(x_{0:T}) + E log q(x_{1:T}|x_0), kernels one by one
    eq_3 = 0.5 * (math.log(2 * math.pi) + v[T])
    for t in range(1, T + 1):
        s2 = sigma_squared[t]
        cross = v[t - 1] - 2 * a[t] * math.sqrt(1 - beta[t]) * v[t - 1] + a[t] ** 2 * v[t]
        eq_3 += 0.5 * (math.log(2 * math.pi * s2) + cross / s2)
        eq_3 -= 0.5 * (math.log(2 * math.pi * beta[t]) + 1)
    assert math.isclose(eq_16, eq_5, rel_tol=1e-8)
    assert math.isclose(eq_16, eq_3, rel_tol=1e-8)
    if sigma == "optimal":
        assert math.isclose(eq_5, entropy + kl(v[T], 1.0), rel_tol=1e-8)
    else:
        assert eq_5 > entropy + 0.01


def test_the_bound_in_bits_bounds_the_entropy_of_discrete_data():
    """Pixels that are −1 or 1 with p = ½ carry 1 bit; the bound with exact ε* lies just above."""
    schedule = linear_schedule()
    data = GaussianMixture(
        torch.tensor([[-1.0], [1.0]], dtype=torch.float64),
        torch.full((2,), 1e-6, dtype=torch.float64),
    )
    x_0, _ = data.sample(400, torch.Generator().manual_seed(0))
    bound = variational_bound(
        schedule,
        data.eps(schedule),
        x_0.sign(),
        levels=2,
        variance="posterior",
        generator=torch.Generator().manual_seed(1),
    ).total.numpy()
    standard_error = np.std(bound) / 20
    assert 1 - 5 * standard_error < bound.mean() < 1.05 + 5 * standard_error
    assert standard_error < 0.03
