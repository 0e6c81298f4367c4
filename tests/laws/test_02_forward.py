"""q, DDPM Eq. 2, 4, 6, 7. The expected values come from kernels, Bayes' rule and a grid."""

import math

import pytest
import torch
from oracles import normal
from torch.testing import assert_close

from ddpm import q_posterior, q_sample


def test_q_sample_is_t_single_steps(schedule):
    """DDPM Eq. 2, 4: x ← √(1−β)·x + √β·z, followed as (signal, variance of the noise)."""
    t = torch.arange(0, 1001)
    one, zero = torch.ones(1001, 1, dtype=torch.float64), torch.zeros(1001, 1, dtype=torch.float64)
    signal = q_sample(schedule, one, t, zero).flatten()
    noise = q_sample(schedule, zero, t, one).flatten()
    a, v = 1.0, 0.0
    for step in range(1, 1001):
        beta = float(schedule.beta[step])
        a, v = math.sqrt(1 - beta) * a, (1 - beta) * v + beta
        assert math.isclose(signal[step], a, rel_tol=1e-11)
        assert math.isclose(noise[step], math.sqrt(v), rel_tol=1e-11)
    assert signal[0] == 1 and noise[0] == 0  # t = 0 is clean data


def test_q_sample_is_linear_per_image(schedule):
    """DDPM Eq. 4 with a t for each image: a batch is as many calls."""
    x_0, eps = normal((3, 2, 4, 4)), normal((3, 2, 4, 4), 1)
    t = torch.tensor([1, 400, 1000])
    x_t = q_sample(schedule, x_0, t, eps)
    for k in range(3):  # every image has its own t
        assert_close(
            x_t[k : k + 1], q_sample(schedule, x_0[k : k + 1], t[k : k + 1], eps[k : k + 1])
        )


def test_q_posterior_is_bayes_rule_in_precision_form(schedule):
    """DDPM Eq. 6, 7: precisions add. Prior q(x_{t−1}|x_0) of Eq. 4, likelihood q(x_t|x_{t−1})."""
    t = torch.arange(2, 1001)
    x_0, x_t = normal((999, 1)), normal((999, 1), 1)
    mean, variance = q_posterior(schedule, x_0, x_t, t)
    beta, previous = schedule.beta[t][:, None], schedule.alpha_bar[t - 1][:, None]
    precision = 1 / (1 - previous) + (1 - beta) / beta
    expected = (previous.sqrt() * x_0 / (1 - previous) + (1 - beta).sqrt() * x_t / beta) / precision
    assert_close(variance, 1 / precision, rtol=1e-9, atol=0)
    assert_close(mean, expected, rtol=1e-9, atol=1e-12)


def test_q_posterior_at_t_1_is_x_0(schedule):
    """DDPM Eq. 7 at t = 1: ᾱ_0 = 1 leaves nothing of x_1, and β̃_1 = 0."""
    x_0, x_t, t = normal((5, 2)), normal((5, 2), 1), torch.ones(5, dtype=torch.int64)
    mean, variance = q_posterior(schedule, x_0, x_t, t)
    assert_close(mean, x_0, rtol=1e-12, atol=1e-12)
    assert (variance == 0).all() and variance.shape == (5, 1)


@pytest.mark.parametrize("t", [2, 30, 500, 999])
def test_q_posterior_on_a_grid(schedule, t):
    """DDPM Eq. 6: q(x_{t−1}|x_0)·q(x_t|x_{t−1}), normalised by a sum."""
    beta, previous = float(schedule.beta[t]), float(schedule.alpha_bar[t - 1])
    x_0, sigma = 0.7, math.sqrt(1 - previous)
    x_t = math.sqrt(previous) * x_0 - 1.3 * sigma
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64) * sigma + math.sqrt(previous) * x_0
    log_p = -0.5 * (x - math.sqrt(previous) * x_0) ** 2 / (1 - previous)
    log_p = log_p - 0.5 * (x_t - math.sqrt(1 - beta) * x) ** 2 / beta
    p = log_p.softmax(0)
    mean, variance = q_posterior(
        schedule,
        torch.tensor([[x_0]], dtype=torch.float64),
        torch.tensor([[x_t]], dtype=torch.float64),
        torch.tensor([t]),
    )
    assert math.isclose(mean, (p * x).sum(), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(variance, (p * (x - mean.squeeze()) ** 2).sum(), rel_tol=1e-8)
