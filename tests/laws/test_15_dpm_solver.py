"""DPM-Solver++ (2M): one order better than DDIM, on flows that are known in closed form."""

import itertools

import pytest
import torch
from oracles import last, normal, seeded
from torch.testing import assert_close

from ddpm import GaussianMixture, ddim, dpm_solver, linear_schedule

FIRST, LAST = 1000, 100  # from high noise to an SNR of 8, where the last update begins


def visited(S):
    return [FIRST - round(k * (FIRST - LAST) / S) for k in range(S + 1)]


def errors(sampler, schedule, eps, x_T, exact):
    """Of the state at LAST, with 15, 30, 60, 120 updates before it."""
    found = []
    for S in (15, 30, 60, 120):
        *_, before, _ = sampler(schedule, eps, x_T, visited(S), clip=None)
        found.append((before.x - exact).square().mean().sqrt().item())
    return found


def test_the_error_falls_with_the_square_of_the_step():
    """DPM-Solver++ Alg. 2. The reverse flow of one Gaussian is known: each x_t keeps its place in
    units of the standard deviation, x_t = √ᾱ_t·μ + √(ᾱ_t·v + 1 − ᾱ_t)·z. Half the step, a quarter
    of the error; DDIM's is halved."""
    schedule, mean, variance = linear_schedule(1000), 0.7, 0.05
    world = GaussianMixture(torch.tensor([[mean]]).double(), torch.tensor([variance]).double())

    def state(t, z):
        a = schedule.alpha_bar[t]
        return a.sqrt() * mean + (a * variance + 1 - a).sqrt() * z

    z = normal((500, 1))
    case = schedule, world.eps(schedule), state(FIRST, z), state(LAST, z)
    second, first = errors(dpm_solver, *case), errors(ddim, *case)
    for coarse, fine in itertools.pairwise(second):
        assert 3.6 < coarse / fine < 4.3, second
    for coarse, fine in itertools.pairwise(first):
        assert 1.8 < coarse / fine < 2.2, first
    assert second[0] < first[2]  # 15 updates are better than 60 of DDIM's


def test_half_the_steps_come_nearer_to_the_flow(mixture):
    """Three Gaussians in the plane. The flow itself is DDIM's with all T steps, whose own error is
    a twentieth of that of 50."""
    schedule, x_T = linear_schedule(1000), normal((500, 2))
    eps = mixture.eps(schedule)
    flow = last(ddim(schedule, eps, x_T, clip=None)).x

    def distance(sampler, S):
        x = last(sampler(schedule, eps, x_T, S, clip=None)).x
        return (x - flow).norm(dim=1).median()

    for S in (10, 15, 25):
        assert distance(dpm_solver, S) < distance(ddim, 2 * S)
    assert distance(dpm_solver, 50) < distance(ddim, 50) / 4


def test_one_and_two_steps_are_ddim(schedule, mixture):
    """DPM-Solver++ Alg. 2 begins with DDIM's update, since it has no slope yet. Ours ends with one,
    too, as h is infinite there. So a run of two updates is DDIM's, and of three is not."""
    eps, x_T = mixture.eps(schedule), normal((4, 2))
    for steps in (1, 2, [900, 300]):
        pairs = zip(*(f(schedule, eps, x_T, steps) for f in (dpm_solver, ddim)), strict=True)
        for one, two in pairs:
            assert one.t == two.t
            for key in ("x", "eps", "x_0"):
                assert_close(getattr(one, key), getattr(two, key), rtol=1e-9, atol=1e-12)
    three = [last(f(schedule, eps, x_T, 3)).x for f in (dpm_solver, ddim)]
    assert (three[0] - three[1]).abs().max() > 1e-3


def test_a_slope_in_log_snr_is_followed_exactly_on_average(schedule):
    """Where x̂_0 = m + k·λ, a line in λ, D is its value in the middle of the step, on any stride:
    λ_t + h/2. Uneven strides would show an r that is upside down."""
    steps, m, k = [1000, 700, 650, 300, 250, 40], 0.3, 0.2
    lam = (schedule.alpha_bar / (1 - schedule.alpha_bar)).log() / 2

    def eps(x_t, t):
        a = schedule.alpha_bar[t[0]]
        return (x_t - a.sqrt() * (m + k * lam[t[0]])) / (1 - a).sqrt()

    x = normal((3, 2))
    process = dpm_solver(schedule, eps, x, steps, clip=None)
    for i, step in enumerate(process):
        t, s = (*steps, 0)[i : i + 2]
        a, b = schedule.alpha_bar[t], schedule.alpha_bar[s]
        middle = m + k * (lam[t] if i in (0, len(steps) - 1) else (lam[t] + lam[s]) / 2)
        kept = ((1 - b) / (1 - a)).sqrt()
        assert_close(
            step.x, kept * x + (b.sqrt() - kept * a.sqrt()) * middle, rtol=1e-8, atol=1e-10
        )
        x = step.x


@pytest.mark.parametrize("guidance", [0.0, 4.0])
def test_the_clip_acts_on_x_0_and_no_noise_is_drawn(schedule, guidance):
    """x̂_0 stays in [low, high]; D, which goes on along its line, need not."""
    world = GaussianMixture(
        torch.tensor([[1.5], [-1.5]]).double(), torch.tensor([0.1, 0.1]).double()
    )
    eps, generator = world.eps(schedule), seeded()

    def guided(x_t, t):
        c, null = torch.zeros(len(t), dtype=torch.int64), torch.full((len(t),), 2)
        return (1 + guidance) * eps(x_t, t, c) - guidance * eps(x_t, t, null)

    before = generator.get_state()
    steps = list(
        dpm_solver(schedule, guided, normal((50, 1)), 10, clip=(-1, 1), generator=generator)
    )
    assert all(step.x_0.abs().max() <= 1 for step in steps)
    assert steps[-1].x.abs().max() <= 1  # the last update ends in x̂_0
    assert torch.equal(generator.get_state(), before)
