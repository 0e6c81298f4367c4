"""The tables β_t, α_t, ᾱ_t, β̃_t: index = the paper's t, nothing off by one."""

import itertools
import math

import torch
from torch.testing import assert_close

from ddpm import cosine_schedule, linear_schedule, timesteps


def test_tables_are_indexed_by_the_papers_t(schedule):
    """Entry 0 is clean data: β_0 = 0, ᾱ_0 = 1; entry t is the paper's t, up to T."""
    for table in ("beta", "alpha", "alpha_bar", "posterior_variance"):
        values = getattr(schedule, table)
        assert values.shape == (1001,) and values.dtype == torch.float64
    assert schedule.T == 1000
    assert schedule.beta[0] == 0 and schedule.alpha_bar[0] == 1
    assert schedule.posterior_variance[0] == 0 and schedule.posterior_variance[1] == 0


def test_linear_schedule_is_ddpm_section_4():
    """DDPM Sec. 4: β from 1e-4 to 0.02. The other road to ᾱ: a sum of logarithms."""
    beta = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]  # β_1 … β_1000
    schedule = linear_schedule()
    assert_close(schedule.beta[1:], torch.tensor(beta, dtype=torch.float64), rtol=1e-13, atol=0)
    for t in (1, 2, 500, 1000):  # the other road: logarithms, no cumulative product
        expected = math.exp(math.fsum(math.log1p(-b) for b in beta[:t]))
        assert math.isclose(schedule.alpha_bar[t], expected, rel_tol=1e-12)


def test_cosine_schedule_is_iddpm():
    """IDDPM Sec. 3.2: ᾱ_t = f(t)/f(0), as far as the clip of β at 0.999 lets it."""
    schedule = cosine_schedule()

    def f(t):
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (1, 10, 500, 900):
        assert math.isclose(schedule.alpha_bar[t], f(t) / f(0), rel_tol=1e-12)
    assert schedule.beta.max() == 0.999 and schedule.beta[1000] == 0.999


def test_almost_nothing_of_the_image_is_left_at_T(schedule):
    """DDPM Sec. 4: L_T ≈ 1e-5 bits/dim. Here for white pixels, the worst case: ½·ᾱ_T/ln 2."""
    alpha_bar = float(schedule.alpha_bar[-1])
    kl = 0.5 * (alpha_bar + (1 - alpha_bar) - 1 - math.log1p(-alpha_bar))
    assert kl / math.log(2) < 4e-5


def test_posterior_variance_lies_below_beta(schedule):
    """DDPM Eq. 7: β̃_t/β_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t) < 1."""
    assert (schedule.posterior_variance[1:] < schedule.beta[1:]).all()
    ratio = schedule.posterior_variance[2:] / schedule.beta[2:]
    assert_close(ratio, (1 - schedule.alpha_bar[1:-1]) / (1 - schedule.alpha_bar[2:]))


def test_subsequence_keeps_what_is_left_of_the_image(schedule):
    """DDIM Sec. 4.2: ᾱ at the visited t, and β of a stride as the product over what it skips."""
    visited = [1000, 700, 699, 3, 1]
    sub = schedule.subsequence(visited)
    assert sub.T == 5
    # bit for bit: ᾱ_T of the cosine schedule is 2e-9, of which 1 − β would have kept 8 digits
    assert torch.equal(sub.alpha_bar, schedule.alpha_bar[[0, 1, 3, 699, 700, 1000]])
    assert sub.alpha[5] == schedule.alpha_bar[1000] / schedule.alpha_bar[700]
    # β of a stride: the chance that any of its steps' noise is still there
    kept = math.prod(1 - float(b) for b in schedule.beta[4:700])
    assert math.isclose(sub.beta[3], 1 - kept, rel_tol=1e-11)
    assert_close(schedule.subsequence(timesteps(1000, 1000)).beta, schedule.beta, rtol=1e-9, atol=0)


def test_timesteps_lead_from_T_to_at_least_1():
    """S values of t, strictly decreasing from T, evenly spaced: for every S ≤ T < 40."""
    for T in range(1, 40):
        for S in range(1, T + 1):
            visited = timesteps(T, S)
            assert len(visited) == S and visited[0] == T and visited[-1] >= 1
            assert all(t > s for t, s in itertools.pairwise(visited))
            gaps = [t - s for t, s in zip(visited, [*visited[1:], 0], strict=True)]
            assert max(gaps) - min(gaps) <= 1  # evenly spaced, the last jump to 0 included
    assert timesteps(1000, 4) == [1000, 750, 500, 250]
