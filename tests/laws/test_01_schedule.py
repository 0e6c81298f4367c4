"""The tables: index = the paper's t, nothing off by one."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ddpm import Schedule, cosine_schedule, linear_schedule, timesteps


def test_tables_are_indexed_by_the_papers_t(schedule):
    for table in ("beta", "alpha", "alpha_bar", "posterior_variance"):
        values = getattr(schedule, table)
        assert values.shape == (1001,) and values.dtype == torch.float64
    assert schedule.T == 1000
    assert schedule.beta[0] == 0 and schedule.alpha_bar[0] == 1
    assert schedule.posterior_variance[0] == 0 and schedule.posterior_variance[1] == 0


def test_linear_schedule_is_ddpm_section_4():
    beta = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]  # β_1 … β_1000
    schedule = linear_schedule()
    assert_close(schedule.beta[1:], torch.tensor(beta, dtype=torch.float64), rtol=1e-13, atol=0)
    for t in (1, 2, 500, 1000):  # the other road: logarithms, no cumulative product
        expected = math.exp(math.fsum(math.log1p(-b) for b in beta[:t]))
        assert math.isclose(schedule.alpha_bar[t], expected, rel_tol=1e-12)


def test_cosine_schedule_is_iddpm():
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
    assert (schedule.posterior_variance[1:] < schedule.beta[1:]).all()
    ratio = schedule.posterior_variance[2:] / schedule.beta[2:]
    assert_close(ratio, (1 - schedule.alpha_bar[1:-1]) / (1 - schedule.alpha_bar[2:]))


def test_at_casts_to_the_image(schedule):
    x = torch.zeros(2, 3, 4, 4)
    values = schedule.at(schedule.beta, torch.tensor([1, 1000]), x)
    assert values.shape == (2, 1, 1, 1) and values.dtype == torch.float32
    assert values[1].item() == schedule.beta[1000].float()


def test_at_goes_to_the_images_device(schedule):
    """meta stands for an accelerator: tensors without values, which refuse to meet the CPU's."""
    x, t = torch.zeros(2, 3, device="meta"), torch.ones(2, dtype=torch.int64, device="meta")
    assert schedule.at(schedule.beta, t, x).is_meta and schedule.beta.is_cpu


@pytest.mark.parametrize("t", [[-1], [1001], [1, 2], [1.0]])
def test_at_refuses_other_t(schedule, t):
    with pytest.raises(ValueError, match="^t must"):
        schedule.at(schedule.beta, torch.tensor(t), torch.zeros(1, 2))


def test_subsequence_keeps_what_is_left_of_the_image(schedule):
    visited = [1000, 700, 699, 3, 1]
    sub = schedule.subsequence(visited)
    assert sub.T == 5
    # ᾱ_T of the cosine schedule is 2e-9, and 1 − β keeps 16 digits: 8 of them are left
    assert_close(sub.alpha_bar[1:], schedule.alpha_bar[visited[::-1]], rtol=1e-8, atol=0)
    # β of a stride: the chance that any of its steps' noise is still there
    kept = math.prod(1 - float(b) for b in schedule.beta[4:700])
    assert math.isclose(sub.beta[3], 1 - kept, rel_tol=1e-11)
    assert_close(schedule.subsequence(timesteps(1000, 1000)).beta, schedule.beta, rtol=1e-9, atol=0)


def test_info_survives_json(schedule):
    assert schedule.info["name"] in ("linear", "cosine") and schedule.info["T"] == 1000
    again = Schedule.from_info(json.loads(json.dumps(schedule.info)))
    assert torch.equal(again.beta, schedule.beta)
    own = Schedule(torch.tensor([0.1, 0.2, 0.7]))
    assert torch.equal(Schedule.from_info(json.loads(json.dumps(own.info))).beta, own.beta)


def test_tables_are_float64_on_the_cpu_whatever_they_are_made_from():
    half = Schedule(torch.tensor([0.5, 0.25], dtype=torch.float16))
    with torch.device("meta"):  # the default device, one without values
        plain = Schedule([0.5, 0.25])
    for own in (half, plain):
        assert own.beta.dtype == torch.float64 and own.beta.tolist() == [0, 0.5, 0.25]
    assert linear_schedule(3, 0.1, 0.1).beta.tolist() == [0, 0.1, 0.1, 0.1]  # constant is linear


def test_timesteps_lead_from_T_to_at_least_1():
    for T in range(1, 40):
        for S in range(1, T + 1):
            visited = timesteps(T, S)
            assert len(visited) == S and visited[0] == T and visited[-1] >= 1
            assert all(t > s for t, s in itertools.pairwise(visited))
            gaps = [t - s for t, s in zip(visited, [*visited[1:], 0], strict=True)]
            assert max(gaps) - min(gaps) <= 1  # evenly spaced, the last jump to 0 included
    assert timesteps(1000, 4) == [1000, 750, 500, 250]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: timesteps(1000, 0), "steps"),
        (lambda: timesteps(1000, 1001), "steps"),
        (lambda: timesteps(1000, 2.5), "steps"),
        (lambda: timesteps(1000, True), "steps"),
        (lambda: timesteps(0, 1), "T"),
        (lambda: linear_schedule(0), "T"),
        (lambda: linear_schedule(10, 0.5, 0.1), "beta_1"),
        (lambda: linear_schedule(10, 0.0, 0.1), "beta_1"),
        (lambda: linear_schedule(10, 0.1, 1.0), "beta_1"),
        (lambda: cosine_schedule(-3), "T"),
        (lambda: cosine_schedule(True), "T"),
        (lambda: cosine_schedule(10, s=float("nan")), "s must"),
        (lambda: cosine_schedule(10, s=0.0), "s must"),
        (lambda: Schedule(torch.tensor([0.1, 1.0])), "beta"),
        (lambda: Schedule(torch.tensor([0.0, 0.1])), "beta"),
        (lambda: Schedule(torch.tensor([])), "beta"),
        (lambda: Schedule(torch.tensor([[0.1]])), "beta"),
        (lambda: Schedule.from_info({}), r"info\['name'\]"),
        (lambda: Schedule.from_info({"name": "sine"}), r"info\['name'\]"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()


def test_integers_of_any_kind_are_counted_with():
    assert timesteps(np.int64(1000), np.int32(4)) == [1000, 750, 500, 250]
    assert linear_schedule(np.int64(10)).info["T"] == 10
    assert type(cosine_schedule(np.int64(10)).info["T"]) is int  # as JSON wants it


def test_images_of_integers_are_refused():
    """Cast to uint8 every coefficient would be 0, and so would every image."""
    with pytest.raises(ValueError, match="^images must be floats"):
        linear_schedule().at(linear_schedule().beta, torch.tensor([1]), torch.ones(1, 2).byte())


@pytest.mark.parametrize("t", [torch.tensor([True]), torch.tensor([1], dtype=torch.uint8)])
def test_t_that_would_be_taken_for_a_mask_is_refused(t):
    with pytest.raises(ValueError, match="^t must hold one integer"):
        linear_schedule().at(linear_schedule().beta, t, torch.ones(1, 2))


def test_a_long_schedule_can_be_sampled_in_one_step():
    """ᾱ_4000 is 1e-18: 1 − ᾱ is 1 to every digit of float64."""
    sub = linear_schedule(4000).subsequence([4000])
    assert sub.T == 1 and 0 < sub.alpha_bar[1] < 1e-14


def test_info_with_other_arguments_is_refused():
    with pytest.raises(ValueError, match="^info can't be made into a schedule"):
        Schedule.from_info({"name": "linear", "T": 10, "s": 1})
