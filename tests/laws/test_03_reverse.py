"""Predictions and samplers."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import normal
from torch.testing import assert_close

from ddpm import (
    GaussianMixture,
    ancestral,
    ddim,
    linear_schedule,
    predict_x_0,
    q_posterior,
    q_sample,
    reverse_mean,
    timesteps,
)


def last(steps):
    *_, final = steps
    return final


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def gaussian(variance, mean=0.0):
    return GaussianMixture(
        torch.tensor([[mean]], dtype=torch.float64), torch.tensor([variance], dtype=torch.float64)
    )


def test_predict_x_0_undoes_q_sample(schedule):
    """DDPM Eq. 15 inverts Eq. 4 when ε is the true noise."""
    t = torch.arange(1, 1001)
    x_0, eps = normal((1000, 2)), normal((1000, 2), 1)
    x_t = q_sample(schedule, x_0, t, eps)
    rounding = 1e-15 / schedule.alpha_bar.sqrt()[t].min()  # √ᾱ_T of the cosine schedule is 5e-5
    assert_close(predict_x_0(schedule, x_t, t, eps), x_0, rtol=0, atol=float(10 * rounding))


def test_reverse_mean_is_the_posterior_mean_at_the_predicted_x_0(schedule):
    """DDPM Eq. 11 = Eq. 7 with Eq. 15 put in, for any ε."""
    t = torch.arange(1, 1001)
    x_t, eps = normal((1000, 2)), normal((1000, 2), 1)
    mean, _ = q_posterior(schedule, predict_x_0(schedule, x_t, t, eps), x_t, t)
    assert_close(reverse_mean(schedule, x_t, t, eps), mean, rtol=1e-9, atol=1e-10)


STRIDES = [None, 50, 7, [1000, 999, 400, 3, 2, 1], [600, 100]]


@pytest.mark.parametrize("steps", STRIDES)
def test_ddim_with_eta_1_is_ancestral_with_the_posterior_variance(schedule, mixture, steps):
    """DDIM Eq. 12, 16 at η = 1 = DDPM Alg. 2 with β̃, on any stride: same noise, same states."""
    eps, x_T = mixture.eps(schedule), normal((4, 2))
    one = ddim(schedule, eps, x_T, steps, clip=None, eta=1.0, generator=seeded())
    two = ancestral(schedule, eps, x_T, steps, clip=None, variance="posterior", generator=seeded())
    for a, b in zip(one, two, strict=True):
        assert a.t == b.t
        for key in ("x", "eps", "x_0"):
            assert_close(getattr(a, key), getattr(b, key), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_one_ancestral_update_is_algorithm_2(schedule, mixture, variance):
    """x_{t−1} = Eq. 11 + σ_t·z, written down from the tables of β alone."""
    t, x_t = 300, normal((5, 2))
    step = next(
        ancestral(
            schedule,
            mixture.eps(schedule),
            x_t,
            [t, t - 1],
            clip=None,
            variance=variance,
            generator=seeded(),
        )
    )
    alpha_bar = math.prod(1 - float(b) for b in schedule.beta[1 : t + 1])
    beta = float(schedule.beta[t])
    eps = mixture.eps(schedule)(x_t, torch.full((5,), t))
    mean = (x_t - beta / math.sqrt(1 - alpha_bar) * eps) / math.sqrt(1 - beta)
    sigma_squared = beta
    if variance == "posterior":
        sigma_squared *= (1 - alpha_bar / (1 - beta)) / (1 - alpha_bar)
    z = torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    assert_close(step.x, mean + math.sqrt(sigma_squared) * z, rtol=0, atol=1e-10)
    assert_close(step.eps, eps)
    assert step.t == t


@pytest.mark.parametrize("variance", ["beta", "posterior"])
@pytest.mark.parametrize("steps", [None, 10])
def test_the_variance_follows_the_closed_recursion(schedule, variance, steps):
    """x_0 ~ N(0, s²) and exact ε*: x_{t−1} = a·x_t + σ·z, so Var ← a²·Var + σ², step by step.

    The kernel comes from the joint Gaussian of (x_s, x_t), s < t: the mean regresses x_0 on x_t.
    """
    s_squared, n = 0.3, 40_000
    eps = gaussian(s_squared).eps(schedule)
    visited = timesteps(1000, 1000 if steps is None else steps)
    process = ancestral(
        schedule, eps, normal((n, 1)), steps, clip=None, variance=variance, generator=seeded()
    )
    v = 1.0
    for step, s in zip(process, [*visited[1:], 0], strict=True):
        ab_t, ab_s = float(schedule.alpha_bar[step.t]), float(schedule.alpha_bar[s])
        beta = 1 - ab_t / ab_s
        regression = math.sqrt(ab_t) * s_squared / (ab_t * s_squared + 1 - ab_t)  # E[x_0|x_t]/x_t
        a = math.sqrt(ab_s) * beta / (1 - ab_t) * regression
        a += math.sqrt(1 - beta) * (1 - ab_s) / (1 - ab_t)
        sigma_squared = beta if variance == "beta" else beta * (1 - ab_s) / (1 - ab_t)
        v = a * a * v + (sigma_squared if s > 0 else 0)
        sample = step.x.square().mean().item()
        assert abs(sample - v) < 5 * v * (2 / n) ** 0.5, step.t


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_exact_noise_gives_the_exact_classes(schedule, sampler):
    """All T steps with ε*: class proportions, means and spreads of the mixture come out."""
    n, weight = 4000, (0.2, 0.5, 0.3)
    mixture = GaussianMixture(
        torch.tensor([[-3.0], [0.0], [3.0]], dtype=torch.float64),
        torch.full((3,), 0.25, dtype=torch.float64),
        torch.tensor(weight, dtype=torch.float64),
    )
    make = ancestral if sampler == "ancestral" else ddim
    x = last(
        make(schedule, mixture.eps(schedule), normal((n, 1)), clip=None, generator=seeded())
    ).x.flatten()
    for centre, p in zip((-3, 0, 3), weight, strict=True):
        of_class = x[(x - centre).abs() < 1.5]
        assert abs(len(of_class) / n - p) < 5 * (p * (1 - p) / n) ** 0.5
        spread = 0.5  # 1.5 is 3 σ: cutting there takes 1.3 % off it
        assert abs(of_class.mean() - centre) < 5 * spread / len(of_class) ** 0.5
        assert abs(of_class.std() - 0.987 * spread) < 5 * spread / (2 * len(of_class)) ** 0.5 + 0.01


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_the_last_update_adds_no_noise(schedule, mixture, sampler):
    for steps in ([1], [40, 3], 6):
        step = last(sampler(schedule, mixture.eps(schedule), normal((3, 2)), steps, clip=None))
        assert_close(step.x, step.x_0, rtol=1e-9, atol=1e-9)
    x_1 = normal((3, 2))
    t = torch.ones(3, dtype=torch.int64)
    eps = mixture.eps(schedule)(x_1, t)
    final = next(sampler(schedule, mixture.eps(schedule), x_1, [1], clip=None)).x
    assert_close(final, reverse_mean(schedule, x_1, t, eps), rtol=1e-9, atol=1e-9)


def test_ddim_is_deterministic_and_touches_no_generator(schedule, mixture):
    generator = seeded()
    before = generator.get_state()
    x_T, eps = normal((3, 2)), mixture.eps(schedule)
    one = last(ddim(schedule, eps, x_T, 20, generator=generator)).x
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(one, last(ddim(schedule, eps, x_T, 20)).x)


def test_ddim_is_an_euler_step_and_can_be_run_backwards(mixture):
    """DDIM Eq. 13: x/√ᾱ moves along ε by the change of √((1−ᾱ)/ᾱ). Encoding with the same
    rule and decoding again misses by the order of the step: half the step, half the error."""
    schedule = linear_schedule()
    eps, alpha_bar = mixture.eps(schedule), schedule.alpha_bar
    x_0, _ = mixture.sample(200, seeded())
    errors = []
    for S in (125, 250, 500):
        visited = [*timesteps(1000, S)]
        x = x_0
        for s, t in itertools.pairwise([*visited[:1:-1], *visited[1::-1]]):
            e = eps(x, torch.full((200,), s))
            ratio = [math.sqrt((1 - alpha_bar[k]) / alpha_bar[k]) for k in (s, t)]
            x = math.sqrt(alpha_bar[t]) * (x / math.sqrt(alpha_bar[s]) + (ratio[1] - ratio[0]) * e)
        back = list(ddim(schedule, eps, x, visited, clip=None))[-2].x  # at the smallest t again
        errors.append((back - x_0).square().mean().sqrt().item())
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.4, errors


def test_clip_acts_on_x_0_and_noise_follows(schedule):
    """The clipped x̂_0 and the noise that leads from it to x_t make up the next state."""
    eps = lambda x_t, t: 0.1 * x_t  # noqa: E731
    x_t = 3 * normal((4, 2))
    step = next(ddim(schedule, eps, x_t, [600, 300]))
    ab_t, ab_s = schedule.alpha_bar[600], schedule.alpha_bar[300]
    free = (x_t - (1 - ab_t).sqrt() * 0.1 * x_t) / ab_t.sqrt()
    assert (free.abs() > 1).any() and torch.equal(step.x_0, step.x_0.clamp(-1, 1))
    assert_close(step.x_0, free.clamp(-1, 1))
    noise = (x_t - ab_t.sqrt() * step.x_0) / (1 - ab_t).sqrt()
    assert_close(step.x, ab_s.sqrt() * step.x_0 + (1 - ab_s).sqrt() * noise)
    assert_close(step.eps, 0.1 * x_t)  # what the predictor said, unclipped
    step = next(ancestral(schedule, eps, x_t, [600, 599], clip=(-0.5, 0.5), generator=seeded()))
    assert_close(step.x_0, free.clamp(-0.5, 0.5))
    t = torch.full((4,), 600)
    mean, _ = q_posterior(schedule, step.x_0, x_t, t)
    z = torch.randn(4, 2, generator=seeded(), dtype=torch.float64)
    assert_close(step.x, mean + schedule.beta[600].sqrt() * z, rtol=0, atol=1e-9)
    for sampler in (ancestral, ddim):  # by default to the range of images
        step = last(sampler(schedule, eps, x_t, 5, generator=seeded()))
        assert step.x.abs().max() <= 1 + 1e-9


def test_states_carry_no_graph_and_stay_on_the_predictors_terms(schedule):
    weight = torch.ones(1, requires_grad=True)
    seen = []

    def eps(x_t, t):
        seen.append((t.dtype, t.tolist(), x_t.requires_grad))
        return weight * x_t

    steps = list(ddim(schedule, eps, torch.ones(2, 1), [9, 4]))
    assert [s.t for s in steps] == [9, 4]
    assert seen == [(torch.int64, [9, 9], False), (torch.int64, [4, 4], False)]
    assert not any(s.x.requires_grad for s in steps)
    assert torch.is_grad_enabled()


def test_the_images_device_is_kept(schedule):
    """meta stands for an accelerator: tensors without values, which refuse to meet the CPU's."""
    x, t = torch.zeros(2, 3, device="meta"), torch.ones(2, dtype=torch.int64, device="meta")
    assert predict_x_0(schedule, x, t, x).is_meta and reverse_mean(schedule, x, t, x).is_meta
    eps = lambda x_t, t: x_t * t[:, None]  # noqa: E731
    for generator in (None, seeded()):
        one = ancestral(schedule, eps, x, 3, shift=eps, generator=generator)
        two = ddim(schedule, eps, x, 3, eta=1.0, generator=generator)
        for step in (*one, *two):
            assert step.x.is_meta and step.x_0.is_meta and step.eps.is_meta


def test_a_seed_makes_sampling_repeatable(schedule, mixture):
    runs = [
        last(ancestral(schedule, mixture.eps(schedule), normal((3, 2)), 9, generator=seeded(s))).x
        for s in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "^steps must be an integer in 1..1000"),
        ({"steps": 1001}, "^steps must be an integer in 1..1000"),
        ({"steps": []}, "^steps must be strictly decreasing"),
        ({"steps": [5, 5]}, "^steps must be strictly decreasing"),
        ({"steps": [5, 6]}, "^steps must be strictly decreasing"),
        ({"steps": [1001, 6]}, "^steps must be strictly decreasing"),
        ({"steps": [6, 0]}, "^steps must be strictly decreasing"),
        ({"clip": (1, -1)}, "^clip"),
        ({"clip": (1, 1)}, "^clip"),
        ({"x_T": torch.zeros(3)}, "^x_T"),
        ({"x_T": torch.zeros(3, 1, dtype=torch.int64)}, "^x_T"),
    ],
)
@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_bad_arguments_are_named_before_the_first_step(sampler, arguments, message):
    call = {"x_T": torch.zeros(3, 1), **arguments}
    with pytest.raises(ValueError, match=message):
        sampler(linear_schedule(), lambda x, t: x, **call)


@pytest.mark.parametrize("eta", [-0.1, float("nan"), float("inf"), 40.0])
def test_bad_eta(eta):
    with pytest.raises(ValueError, match="^eta"):
        ddim(linear_schedule(), lambda x, t: x, torch.zeros(3, 1), 10, eta=eta)


def test_eta_goes_as_far_as_all_of_the_noise_is_new(schedule):
    """x_s has noise of variance 1 − ᾱ_s (Eq. 4). At the largest η all of it is drawn afresh and the
    old direction ε has no part in x_s; a little more would be a variance below 0."""
    t, s, x_t = 500, 250, normal((4, 2))
    ab_t, ab_s = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s])
    largest = math.sqrt((1 - ab_t) / (1 - ab_t / ab_s))
    eps = lambda x_t, t: x_t.tanh()  # noqa: E731
    with pytest.raises(ValueError, match="^eta"):
        ddim(schedule, eps, x_t, [t, s], eta=largest * (1 + 1e-9))
    step = next(
        ddim(schedule, eps, x_t, [t, s], clip=None, eta=largest * (1 - 1e-15), generator=seeded())
    )
    z = torch.randn(4, 2, generator=seeded(), dtype=torch.float64)
    expected = math.sqrt(ab_s) * step.x_0 + math.sqrt(1 - ab_s) * z
    assert_close(step.x, expected, rtol=0, atol=1e-6)  # √ of 1e-15 is 3e-8


def test_bad_variance_and_a_predictor_of_the_wrong_shape():
    schedule, x_T = linear_schedule(), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="^variance"):
        ancestral(schedule, lambda x, t: x, x_T, variance="gamma")
    for eps in (lambda x, t: x[:, :1], lambda x, t: x[:1]):
        with pytest.raises(ValueError, match="^eps must have the shape of x_t"):
            next(ddim(schedule, eps, x_T))
        with pytest.raises(ValueError, match="^eps must have the shape of x_t"):
            reverse_mean(schedule, x_T, torch.ones(3, dtype=torch.int64), eps(x_T, None))


def test_t_0_has_nothing_before_it(schedule):
    x, t = normal((2, 3)), torch.tensor([0, 1])
    for call in (
        lambda: q_posterior(schedule, x, x, t),
        lambda: reverse_mean(schedule, x, t, x),
        lambda: predict_x_0(schedule, x, t, x),
    ):
        with pytest.raises(ValueError, match=r"^t must lie in 1\.\.1000, got 0\.\.1"):
            call()


@pytest.mark.parametrize("steps", [[900.9, 400.2], [True], [torch.tensor(3.5)], 2.5, "50"])
def test_steps_that_are_no_integers(steps):
    with pytest.raises(ValueError, match="^steps must be"):
        ddim(linear_schedule(), lambda x, t: x, torch.zeros(3, 1), steps)


@pytest.mark.parametrize("steps", [[9, 4], (9, 4), np.array([9, 4]), torch.tensor([9, 4])])
def test_steps_may_come_in_any_sequence(steps):
    visited = list(ddim(linear_schedule(), lambda x, t: x, torch.zeros(3, 1), steps))
    assert [step.t for step in visited] == [9, 4]
    number = ddim(linear_schedule(), lambda x, t: x, torch.zeros(3, 1), np.int64(2))
    assert [step.t for step in number] == [1000, 500]
