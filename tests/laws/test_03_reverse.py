"""One step back, and all of them: DDPM Eq. 1, 11, 15, Alg. 2."""

import math
from functools import partial

import pytest
import torch
from oracles import last, moments, normal, seeded, three_on_a_line
from torch.testing import assert_close

from ddpm import (
    GaussianMixture,
    ancestral,
    ddim,
    predict_x_0,
    q_posterior,
    q_sample,
    reverse_mean,
    timesteps,
)


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


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_one_ancestral_update_is_algorithm_2(schedule, mixture, variance):
    """DDPM Eq. 1, Alg. 2: x_{t−1} = Eq. 11 + σ_t·z. The other road: the tables of β alone."""
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
    """DDPM Alg. 2 on x_0 ~ N(m, s²) with exact ε*: x_{t−1} = a·x_t + b + σ·z, step by step.

    The other road is the joint Gaussian of (x_s, x_t), s < t: the mean regresses x_0 on x_t.
    """
    m, s_squared = 0.4, 0.3
    x_T, visited = normal((6, 1)), timesteps(1000, 1000 if steps is None else steps)
    process = ancestral(
        schedule,
        gaussian(s_squared, m).eps(schedule),
        x_T,
        steps,
        clip=None,
        variance=variance,
        generator=seeded(),
    )
    mean, v = 0.0, 1.0
    for (t, by_process, spread), s in zip(
        moments(process, x_T, seeded()), [*visited[1:], 0], strict=True
    ):
        ab_t, ab_s = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s])
        beta = 1 - ab_t / ab_s
        slope = math.sqrt(ab_t) * s_squared / (ab_t * s_squared + 1 - ab_t)  # of E[x_0|x_t] in x_t
        from_x_0 = math.sqrt(ab_s) * beta / (1 - ab_t)
        from_x_t = math.sqrt(1 - beta) * (1 - ab_s) / (1 - ab_t)
        sigma_squared = beta if variance == "beta" else beta * (1 - ab_s) / (1 - ab_t)
        mean = from_x_0 * (m + slope * (mean - math.sqrt(ab_t) * m)) + from_x_t * mean
        v = (from_x_0 * slope + from_x_t) ** 2 * v + (sigma_squared if s > 0 else 0)
        assert math.isclose(by_process, mean, rel_tol=1e-7, abs_tol=1e-9), t
        assert math.isclose(spread, v, rel_tol=1e-7), t


WEIGHT = (0.2, 0.5, 0.3)


def test_exact_noise_gives_the_exact_density(schedule):
    """DDIM with ε*, all T steps: on a line its map is monotone, so it carries the quantiles of
    N(0, 1) into those of the mixture. n quantiles stand for the whole density: nothing is drawn."""
    n = 400
    level = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    eps = three_on_a_line(WEIGHT).eps(schedule)
    x = last(ddim(schedule, eps, torch.special.ndtri(level)[:, None], clip=None)).x
    assert (x.diff(dim=0) > 0).all()
    cdf = torch.special.ndtr((x - torch.tensor([-3.0, 0.0, 3.0])) / 0.5)
    reached = cdf @ torch.tensor(WEIGHT, dtype=torch.float64)
    assert_close(reached, level, rtol=0, atol=0.002)


def test_exact_noise_gives_the_exact_classes(schedule):
    """DDPM Alg. 2 with ε*, all T steps: class proportions, means and spreads of the mixture."""
    n, mixture = 4000, three_on_a_line(WEIGHT)
    eps = mixture.eps(schedule)
    x = last(ancestral(schedule, eps, normal((n, 1)), clip=None, generator=seeded())).x.flatten()
    for centre, p in zip((-3, 0, 3), WEIGHT, strict=True):
        of_class = x[(x - centre).abs() < 1.5]
        assert abs(len(of_class) / n - p) < 5 * (p * (1 - p) / n) ** 0.5
        spread = 0.5  # 1.5 is 3 σ: cutting there takes 1.3 % off it
        assert abs(of_class.mean() - centre) < 5 * spread / len(of_class) ** 0.5
        assert abs(of_class.std() - 0.987 * spread) < 5 * spread / (2 * len(of_class)) ** 0.5 + 0.01


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_the_last_update_adds_no_noise(schedule, mixture, sampler):
    """DDPM Alg. 2, z = 0 at t = 1: the last state is x̂_0 of Eq. 15, which is the mean of Eq. 11."""
    for steps in ([1], [40, 3], 6):
        step = last(sampler(schedule, mixture.eps(schedule), normal((3, 2)), steps, clip=None))
        assert_close(step.x, step.x_0, rtol=1e-9, atol=1e-9)
    x_1 = normal((3, 2))
    t = torch.ones(3, dtype=torch.int64)
    eps = mixture.eps(schedule)(x_1, t)
    final = next(sampler(schedule, mixture.eps(schedule), x_1, [1], clip=None)).x
    assert_close(final, reverse_mean(schedule, x_1, t, eps), rtol=1e-9, atol=1e-9)


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


PER_IMAGE = [partial(ancestral, variance="posterior"), partial(ancestral), partial(ddim, eta=0.7)]


@pytest.mark.parametrize("sampler", PER_IMAGE)
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_an_image_with_a_generator_of_its_own_is_the_same_in_every_batch(
    schedule, sampler, batch_size
):
    """Bit for bit; and every image's noise is standard normal noise of its own."""
    x_T, eps = normal((7, 3, 2)), lambda x_t, t: 0.3 * x_t + t.view(-1, 1, 1) / 1000

    def states(places):
        generators = [seeded(10 + i) for i in places]
        return [s.x for s in sampler(schedule, eps, x_T[places], 9, generator=generators)]

    whole = states(list(range(7)))
    for batch in torch.arange(7).split(batch_size):
        for x, part in zip(whole, states(batch.tolist()), strict=True):
            assert torch.equal(x[batch], part)
    alone = [s.x for s in sampler(schedule, eps, x_T[4:5], 9, generator=seeded(14))]
    assert all(torch.equal(x[4:5], one) for x, one in zip(whole, alone, strict=True))
    still = lambda x_t, t: torch.zeros_like(x_t)  # noqa: E731
    first = next(
        sampler(schedule, still, torch.zeros(7, 3, 2), 9, generator=[*map(seeded, range(7))])
    )
    assert len({tuple(x.flatten().tolist()) for x in first.x}) == 7


@pytest.mark.parametrize("sampler", [ancestral, partial(ddim, eta=0.7), ddim])
def test_the_next_update_starts_from_the_yielded_state(schedule, mixture, sampler):
    """Changed in place it is another state; what is sent, ε and x̂_0 change nothing. The other road:
    a sampler that starts there."""
    eps, x_T, steps = mixture.eps(schedule), normal((4, 2)), [900, 600, 300, 100]
    process = sampler(schedule, eps, x_T, steps, generator=seeded())
    first = next(process)
    first.x[::2] = 0.25
    first.x_0.zero_(), first.eps.zero_()
    start = first.x.clone()
    second = process.send(torch.full_like(x_T, 9.0))

    replay = seeded()
    torch.randn(4, 2, generator=replay, dtype=x_T.dtype)  # what the first update has drawn
    from_there = sampler(schedule, eps, start, steps[1:], generator=replay)
    assert torch.equal(second.x, next(from_there).x)
    assert torch.equal(first.x, start) and torch.equal(x_T, normal((4, 2)))
    plain = list(sampler(schedule, eps, x_T, steps, generator=seeded()))
    assert (second.x == plain[1].x).all(1).tolist() == [False, True, False, True]
