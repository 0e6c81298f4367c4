"""DDIM: Eq. 12, 13, 16."""

import itertools
import math

import pytest
import torch
from oracles import last, normal, seeded
from torch.testing import assert_close

from ddpm import ancestral, ddim, linear_schedule, timesteps

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


def test_ddim_is_deterministic_and_touches_no_generator(schedule, mixture):
    """DDIM Eq. 16 at η = 0: σ_t = 0, so no z is drawn."""
    generator = seeded()
    before = generator.get_state()
    x_T, eps = normal((3, 2)), mixture.eps(schedule)
    one = last(ddim(schedule, eps, x_T, 20, generator=generator)).x
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(one, last(ddim(schedule, eps, x_T, 20)).x)


def test_ddim_is_an_euler_step_and_can_be_run_backwards(mixture):
    """DDIM Eq. 12, 13: x/√ᾱ moves along ε by the change of √((1−ᾱ)/ᾱ). Encoding with the same
    rule and decoding again misses by the order of the step: half the step, half the error."""
    schedule = linear_schedule()
    eps, alpha_bar = mixture.eps(schedule), schedule.alpha_bar
    x_0, _ = mixture.sample(200, seeded())
    errors = []
    for S in (60, 120, 240):
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
