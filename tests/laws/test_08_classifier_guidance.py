"""ADM's classifier guidance, and how Alg. 1 and Eq. 14 hang together."""

import itertools
import math

import pytest
import torch
from oracles import last, log_posterior_of, moments, normal, perturbed_classifier, seeded
from torch.testing import assert_close

from ddpm import ancestral, ddim, linear_schedule, reverse_mean
from guidance import (
    class_log_prob,
    classifier_free_guidance,
    classifier_guidance,
    classifier_mean_shift,
)
from guidance.classifier import gradient

T6 = torch.tensor([1, 20, 200, 500, 800, 1000])


@pytest.mark.parametrize("s", [0.0, 0.5, 1.0, 4.0])
def test_with_the_exact_classifier_scale_s_is_a_w(schedule, mixture, s):
    """ADM Eq. 12–14: on ε(∅) the scale s is CFG with w = s − 1, on ε(c) it is CFG with w = s."""
    x_t, c = normal((6, 2)), torch.tensor([0, 1, 2, 0, 1, 2])
    eps, log_prob = mixture.eps(schedule), log_posterior_of(mixture, schedule, c)
    for base, w in ((eps, s - 1), (lambda x, t: eps(x, t, c), s)):
        guided = classifier_guidance(base, log_prob, s, schedule)(x_t, T6)
        free = classifier_free_guidance(eps, c, w, null=3)(x_t, T6)
        assert_close(guided, free, rtol=0, atol=1e-10)


def test_guided_noise_is_the_score_of_the_product(schedule, mixture):
    """ADM Eq. 12–14: ε̂ = −√(1−ᾱ)·∇log(p(x)·p(y|x)^s), by autograd of the product itself."""
    s, y = 2.5, torch.tensor([1, 0, 2, 1, 0, 2])
    x_t = normal((6, 2)).requires_grad_()
    log_p = mixture.log_prob(schedule, x_t, T6)
    log_p_y = mixture.log_posterior(schedule, x_t, T6)[torch.arange(6), y]
    (score,) = torch.autograd.grad((log_p + s * log_p_y).sum(), x_t)
    sigma = (1 - schedule.alpha_bar[T6]).sqrt()[:, None]
    log_prob = log_posterior_of(mixture, schedule, y)
    guided = classifier_guidance(mixture.eps(schedule), log_prob, s, schedule)
    assert_close(guided(x_t.detach(), T6), -sigma * score, rtol=0, atol=1e-10)


@pytest.mark.parametrize("s", [0.5, 3.0])
def test_the_scaled_gradient_is_that_of_a_sharper_classifier(line, s):
    """ADM Sec. 4.3: s·∇log p(y|x) = ∇log(p(y|x)^s / Z); finite differences of a normalised grid."""
    schedule, t = linear_schedule(), 300
    x = torch.linspace(-4, 4, 80_001, dtype=torch.float64)[:, None]
    p = line.log_posterior(schedule, x, torch.full((len(x),), t)).exp()[:, 1]
    sharper = p**s / (p**s).sum()
    middle = slice(30_000, 50_000, 500)
    log_q, h = sharper.log(), float(x[1] - x[0])
    difference = (log_q.roll(-1) - log_q.roll(1)) / (2 * h)
    points = x[middle]
    g = classifier_mean_shift(log_posterior_of(line, schedule, 1), s)(
        points, torch.full((len(points),), t)
    )
    assert_close(g.flatten(), difference[middle], rtol=0, atol=1e-5)


def test_taylor_argument_of_adm_eq_2_to_10(line):
    """ADM Eq. 2–10: p_θ(x_t|x_{t+1})·p_φ(y|x_t) on a grid, against N(μ + Σg, Σ). Both moments are
    off by O(Σ²), so half the Σ makes a quarter of the error."""
    schedule, t, mu = linear_schedule(), torch.tensor([250]), 0.9
    log_prob = log_posterior_of(line, schedule, 1)
    g = float(gradient(log_prob, torch.tensor([[mu]], dtype=torch.float64), t))
    off_mean, off_variance = [], []
    for variance in (0.02, 0.01, 0.005, 0.0025):
        sigma = math.sqrt(variance)
        x = mu + sigma * torch.linspace(-10, 10, 20_001, dtype=torch.float64)
        log_p = -0.5 * (x - mu) ** 2 / variance + log_prob(x[:, None], t.expand(len(x)))  # Eq. 2–4
        p = log_p.softmax(0)
        mean = (p * x).sum()
        off_mean.append(abs(float(mean) - (mu + variance * g)))
        off_variance.append(abs(float((p * (x - mean) ** 2).sum()) - variance))
    for off in (off_mean, off_variance):
        assert off[0] > 1e-6  # there is something to shrink
        for coarse, fine in itertools.pairwise(off):
            assert 3.5 < coarse / fine < 4.5, off
    assert abs(0.0025 * g) > 20 * off_mean[-1]  # and it is small beside the shift itself


@pytest.mark.parametrize("variance", ["beta", "posterior"])
@pytest.mark.parametrize("t", [2, 100, 700, 1000])
def test_mean_shift_and_eq_14_differ_by_one_factor(schedule, mixture, variance, t):
    """ADM Alg. 1 moves the mean by s·Σ·g. Eq. 14 put into DDPM's Eq. 11 moves it by s·β_t/√α_t·g.

    So their ratio is β_t/(Σ·√α_t): 1/√α_t for Σ = β_t, which tends to 1 as β_t does to 0.
    """
    s, x_t, y = 1.7, normal((5, 2)), torch.tensor([0, 1, 2, 1, 0])
    eps, log_prob = mixture.eps(schedule), log_posterior_of(mixture, schedule, y)
    x = x_t.clone().requires_grad_()
    log_p = mixture.log_posterior(schedule, x, torch.full((5,), t))[torch.arange(5), y]
    (g,) = torch.autograd.grad(log_p.sum(), x)

    def step(predictor, shift=None):
        return next(
            ancestral(
                schedule,
                predictor,
                x_t,
                [t, t - 1],
                clip=None,
                variance=variance,
                shift=shift,
                generator=torch.Generator().manual_seed(0),
            )
        ).x

    plain = step(eps)
    by_shift = step(eps, classifier_mean_shift(log_prob, s)) - plain
    by_eq_14 = step(classifier_guidance(eps, log_prob, s, schedule)) - plain
    beta, alpha = float(schedule.beta[t]), float(schedule.alpha[t])
    previous, alpha_bar = float(schedule.alpha_bar[t - 1]), float(schedule.alpha_bar[t])
    Sigma = beta if variance == "beta" else beta * (1 - previous) / (1 - alpha_bar)
    assert_close(by_shift, s * Sigma * g, rtol=1e-6, atol=1e-9)
    assert_close(by_eq_14, s * beta / math.sqrt(alpha) * g, rtol=1e-6, atol=1e-9)
    assert_close(by_eq_14, by_shift * beta / (Sigma * math.sqrt(alpha)), rtol=1e-6, atol=1e-9)


def test_eq_14_in_eq_11(schedule, mixture):
    """The same factor at every t, from the two formulas and no sampler."""
    t = torch.arange(1, 1001)
    x_t = normal((1000, 2))
    eps, log_prob = mixture.eps(schedule), log_posterior_of(mixture, schedule, 1)
    guided = classifier_guidance(eps, log_prob, 1.0, schedule)
    moved = reverse_mean(schedule, x_t, t, guided(x_t, t)) - reverse_mean(
        schedule, x_t, t, eps(x_t, t)
    )
    factor = (schedule.beta / schedule.alpha.sqrt())[t][:, None]
    assert_close(moved, factor * gradient(log_prob, x_t, t), rtol=1e-6, atol=1e-9)


def test_both_algorithms_reach_the_class(mixture):
    """ADM Alg. 1, 2 at s = 1 on ε(∅), with the exact classifier, sample p(x|y).

    Alg. 2 is then DDIM on the one Gaussian of y, so its moments are known without sampling. Alg. 1
    is not quite affine; the same noise drives it and an ancestral process on that Gaussian, whose
    moments are known, so only the small difference of the two is left to estimate.
    """
    schedule, n, y = linear_schedule(), 200, 0
    eps, log_prob = mixture.eps(schedule), log_posterior_of(mixture, schedule, y)
    covariance = mixture.U[y] @ mixture.lam[y].diag() @ mixture.U[y].mT
    spread = covariance.diag().sqrt()

    few = normal((8, 2), 9)
    guided = classifier_guidance(eps, log_prob, 1.0, schedule)
    by_algorithm_2 = ddim(schedule, guided, few, clip=None)
    *_, (_, mean, reached) = moments(by_algorithm_2, few, seeded())
    assert ((mean[0, :, 0] - mixture.mean[y]).abs() < 0.01 * spread).all()
    assert ((reached[0] - covariance).abs() < 0.02 * spread.outer(spread)).all()

    x_T = normal((n, 2), 9)
    shift = classifier_mean_shift(log_prob, 1.0)
    by_algorithm_1 = ancestral(schedule, eps, x_T, clip=None, shift=shift, generator=seeded())
    of_class = ancestral(
        schedule,
        lambda x_t, t: eps(x_t, t, torch.full((len(x_t),), y)),
        x_T,
        clip=None,
        generator=seeded(),
    )
    states = list(of_class)
    *_, (_, mean, reached) = moments(states, x_T, seeded())
    one, two = last(by_algorithm_1).x, states[-1].x
    mean = mean[0, :, 0] + (one - two).mean(0)
    reached = reached[0] + one.T.cov() - two.T.cov()
    standard_error = (one - two).std(0) / n**0.5
    assert (standard_error < 0.001 * spread).all()
    assert ((mean - mixture.mean[y]).abs() < 0.01 * spread).all()
    assert ((reached - covariance).abs() < 0.02 * spread.outer(spread)).all()


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_works_wherever_sampling_runs(around):
    """ADM Eq. 6, against finite differences in float64; images do not disturb each other, and no
    graph is left."""
    model = perturbed_classifier().double()
    y = torch.tensor([3, 7])
    log_prob = class_log_prob(model, y)
    with around():
        x_t, t = normal((2, 1, 8, 8)), torch.tensor([10, 900])
        g = gradient(log_prob, x_t, t)
        assert not g.requires_grad and not x_t.requires_grad
        direction, h = normal((2, 1, 8, 8), 1), 1e-5
        up, down = (log_prob(x_t + k * h * direction, t) for k in (1, -1))
        slope = (up - down).detach() / (2 * h)
    assert_close((g * direction).sum((1, 2, 3)), slope, rtol=1e-6, atol=1e-8)
    assert all(p.grad is None for p in model.parameters())


def test_scale_per_image(schedule, mixture):
    """scale (B,) is B separate runs; scale 0 is off."""
    x_t, y = normal((6, 2)), torch.tensor([0, 1, 2, 0, 1, 2])
    eps, log_prob = mixture.eps(schedule), log_posterior_of(mixture, schedule, y)
    scale = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    together = classifier_guidance(eps, log_prob, scale, schedule)(x_t, T6)
    shifts = classifier_mean_shift(log_prob, scale)(x_t, T6)
    for k in range(6):
        one = slice(k, k + 1)
        alone = log_posterior_of(mixture, schedule, y[one])
        guided = classifier_guidance(eps, alone, float(scale[k]), schedule)(x_t[one], T6[one])
        assert_close(together[one], guided, rtol=0, atol=1e-12)
        shift = classifier_mean_shift(alone, float(scale[k]))(x_t[one], T6[one])
        assert_close(shifts[one], shift, rtol=0, atol=1e-12)
    assert torch.equal(together[0], eps(x_t, T6)[0])


def test_with_a_clip_the_shift_comes_after_it():
    """Eq. 14 changes the x̂_0 that is clipped, Alg. 1 moves the mean behind the clip."""
    schedule, x_t = linear_schedule(), 3 * normal((50, 2))
    eps, shift = (lambda x_t, t: 0.1 * x_t), (lambda x_t, t: torch.ones_like(x_t))

    def step(**kwargs):
        generator = torch.Generator().manual_seed(0)
        return next(ancestral(schedule, eps, x_t, [700, 699], generator=generator, **kwargs))

    plain, shifted = step(), step(shift=shift)
    assert (plain.x_0.abs() == 1).any() and torch.equal(plain.x_0, shifted.x_0)
    expected = schedule.beta[700].expand_as(x_t)
    assert_close(shifted.x - plain.x, expected, rtol=0, atol=1e-12)
