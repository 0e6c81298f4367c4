"""Exercises of notebooks 5 and 6: the window, λ = p/(1 − p), and when a concept stands out."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from exercises.adapters import critical_by, negative_by, pushed_by, world
from exercises.checker import Exercise
from exercises.law import Law


def token(t: Tensor, negative: int, null: int, start: int, stop: int) -> Tensor:
    """p₋ while stop < t ≤ start, ∅ at every other t."""
    return torch.where((stop < t) & (t <= start), negative, null)


def tokens(inside: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`token` with another window."""
    return lambda t, n, null, start, stop: torch.where(inside(t, start, stop), n, null)


NEGATIVE = {
    "NegPrompt Eq. 5": Exercise(
        token,
        lambda: (torch.tensor([1000, 800, 799, 500, 499, 200, 199, 1]), 2, 3, 800, 200),
        {
            "off by one: at t = start the negative class acts already.": tokens(
                lambda t, start, stop: (stop < t) & (t < start)
            ),
            "off by one: at t = stop it no longer acts.": tokens(
                lambda t, start, stop: (stop <= t) & (t <= start)
            ),
            "off by one at both ends: it acts at t = start, and no longer at t = stop.": tokens(
                lambda t, start, stop: (stop <= t) & (t < start)
            ),
            "the window is upside down: t counts down, so start is the larger of the two.": tokens(
                lambda t, start, stop: (start < t) & (t <= stop)
            ),
            "p₋ and ∅ are swapped: p₋ stands inside the window, ∅ outside.": tokens(
                lambda t, start, stop: ~((stop < t) & (t <= start))
            ),
            "`|` is or, true at every t here: t is in the window where both hold, which is `&`.": (
                tokens(lambda t, start, stop: (stop < t) | (t <= start))
            ),
            "the stop is missing: it goes on to the end.": tokens(
                lambda t, start, stop: t <= start
            ),
            "the start is missing: it acts from the first step on.": tokens(
                lambda t, start, stop: t > stop
            ),
        },
        (
            Law(
                "test_10_negative",
                "test_the_stop_step_is_the_first_update_without_the_negative_class",
                "negative_guidance",
                world,
            ),
        ),
        negative_by,
    ),
    "DNG Eq. 10": Exercise(
        lambda p: p / (1 - p),
        lambda: (torch.tensor([0.0, 0.1, 0.5, 0.9], dtype=torch.float64),),
        {
            "this is p: it never pushes harder than 1, and leaves some of the class.": lambda p: p,
            "this is (1 − p)/p: it pushes hardest where the class is least likely.": (
                lambda p: (1 - p) / p
            ),
            "p / 1 − p is (p/1) − p = 0: the parentheses of p / (1 − p) are missing.": (
                lambda p: p / 1 - p
            ),
            "this is 1/(1 − p): it still pushes with 1 where the class is impossible.": (
                lambda p: 1 / (1 - p)
            ),
            "the sign is wrong: λ is positive, and the minus stands in front of it already.": (
                lambda p: -p / (1 - p)
            ),
        },
        (
            Law(
                "test_12_dynamic",
                "test_the_exact_posterior_deletes_the_class",
                "posterior_negative_guidance",
            ),
        ),
        pushed_by,
    ),
    "d′": Exercise(
        lambda delta, s_squared, snr: delta / math.sqrt(s_squared + 1 / snr),
        lambda: (1.6, 0.04, 3.0),
        {
            "this has SNR for 1/SNR: noise makes the two harder to tell apart.": (
                lambda d, v, r: d / math.sqrt(v + r)
            ),
            "the root is missing: d′ counts standard deviations, not variances.": (
                lambda d, v, r: d / (v + 1 / r)
            ),
            "the spread of the Gaussians themselves is missing.": lambda d, v, r: d * math.sqrt(r),
            "standard deviations do not add; their squares do.": (
                lambda d, v, r: d / (math.sqrt(v) + math.sqrt(1 / r))
            ),
        },
        (
            Law(
                "test_14_worlds",
                "test_the_posteriors_logit_is_normal_with_the_width_d",
                "discriminability",
            ),
        ),
        lambda yours: lambda delta, variance, log_snr: yours(delta, variance, math.exp(log_snr)),
    ),
    "log-SNR*": Exercise(
        lambda delta, s_squared, d: -math.log(delta**2 / d**2 - s_squared),
        lambda: (1.6, 0.04, 2.0),
        {
            "the sign is wrong: δ²/d² − s² is 1/SNR, so its logarithm is −log-SNR.": (
                lambda delta, v, d: math.log(delta**2 / d**2 - v)
            ),
            "the sign of s² is wrong: δ²/d² = s² + 1/SNR.": (
                lambda delta, v, d: -math.log(delta**2 / d**2 + v)
            ),
            "the squares are missing: it is variances that add.": (
                lambda delta, v, d: -math.log(delta / d - v)
            ),
            "the spread s² of the Gaussians themselves is missing.": (
                lambda delta, v, d: -2 * math.log(delta / d)
            ),
        },
        (
            Law(
                "test_14_worlds",
                "test_the_second_hill_of_an_even_pair_grows_at_the_critical_log_snr",
                "critical_log_snr",
            ),
        ),
        critical_by,
    ),
}
