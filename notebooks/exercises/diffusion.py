"""Exercises of notebooks 1 and 2: noise, the step back, the loss."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddpm import linear_schedule, predict_x_0, q_sample, reverse_mean
from exercises.adapters import drawn_by, simple_loss_of
from exercises.checker import Exercise
from exercises.law import Law

SCHEDULE = linear_schedule()


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Numbers to try a formula on."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tables(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """formula(x, e, α_t, ᾱ_t, ᾱ_{t−1}) as a function of (schedule, x, t, e)."""

    def function(schedule: Any, x: Tensor, t: Tensor, e: Tensor) -> Tensor:
        at = lambda table: schedule.at(table, t, x)  # noqa: E731
        before = schedule.alpha_bar.roll(1)
        return formula(x, e, at(schedule.alpha), at(schedule.alpha_bar), at(before))

    return function


def on_a_batch() -> tuple[Any, ...]:
    """(schedule, x, t, ε) of four images."""
    return SCHEDULE, normal(4, 2), torch.tensor([2, 100, 400, 900]), normal(4, 2, seed=1)


def loss(
    eps_theta: Callable[..., Tensor], schedule: Any, x_0: Tensor, t: Tensor, eps: Tensor
) -> Any:
    """The squared error of DDPM Eq. 14, for t and ε that are already drawn."""
    return (eps - eps_theta(q_sample(schedule, x_0, t, eps), t)).square().mean()


DIFFUSION = {
    "DDPM Eq. 4": Exercise(
        q_sample,
        on_a_batch,
        {
            "the roots are missing. Variances add, so the factors are √ᾱ_t and √(1 − ᾱ_t).": tables(
                lambda x, e, al, a, b: a * x + (1 - a) * e
            ),
            "this has α_t of one step where ᾱ_t, the product of all steps so far, belongs.": tables(
                lambda x, e, al, a, b: al.sqrt() * x + (1 - al).sqrt() * e
            ),
            "this has β_t for 1 − ᾱ_t: the noise of one step, not of all t.": tables(
                lambda x, e, al, a, b: a.sqrt() * x + (1 - al).sqrt() * e
            ),
            "the two factors are swapped: √ᾱ_t belongs to the image.": tables(
                lambda x, e, al, a, b: (1 - a).sqrt() * x + a.sqrt() * e
            ),
            "t is off by one: index t of the table is the paper's ᾱ_t, and index 0 clean data.": (
                tables(lambda x, e, al, a, b: b.sqrt() * x + (1 - b).sqrt() * e)
            ),
            "the sign of the noise is wrong: it is added.": tables(
                lambda x, e, al, a, b: a.sqrt() * x - (1 - a).sqrt() * e
            ),
        },
        (Law("test_02_forward", "test_q_sample_is_t_single_steps", "q_sample"),),
    ),
    "DDPM Eq. 15": Exercise(
        predict_x_0,
        on_a_batch,
        {
            "the sign is wrong: to undo Eq. 4, the noise is subtracted.": tables(
                lambda x, e, al, a, b: (x + (1 - a).sqrt() * e) / a.sqrt()
            ),
            "the root is missing under the line: x_0 had the factor √ᾱ_t.": tables(
                lambda x, e, al, a, b: (x - (1 - a).sqrt() * e) / a
            ),
            "the root is missing: the noise in x_t has the factor √(1 − ᾱ_t).": tables(
                lambda x, e, al, a, b: (x - (1 - a) * e) / a.sqrt()
            ),
            "the division by √ᾱ_t is missing.": tables(
                lambda x, e, al, a, b: x - (1 - a).sqrt() * e
            ),
            "this has α_t for ᾱ_t: it goes back one step's worth, not all t.": tables(
                lambda x, e, al, a, b: (x - (1 - al).sqrt() * e) / al.sqrt()
            ),
        },
        (Law("test_03_reverse", "test_predict_x_0_undoes_q_sample", "predict_x_0"),),
    ),
    "DDPM Eq. 11": Exercise(
        reverse_mean,
        on_a_batch,
        {
            "this has 1 − ᾱ_t for β_t: it takes out all noise at once, and is x̂_0's step.": tables(
                lambda x, e, al, a, b: (x - (1 - a).sqrt() * e) / al.sqrt()
            ),
            "the root is missing: β_t is divided by √(1 − ᾱ_t).": tables(
                lambda x, e, al, a, b: (x - (1 - al) / (1 - a) * e) / al.sqrt()
            ),
            "this has √β_t for β_t/√(1 − ᾱ_t): the step's noise is a part of all noise.": tables(
                lambda x, e, al, a, b: (x - (1 - al).sqrt() * e) / al.sqrt()
            ),
            "the sign is wrong: the step back takes noise out.": tables(
                lambda x, e, al, a, b: (x + (1 - al) / (1 - a).sqrt() * e) / al.sqrt()
            ),
            "this divides by √ᾱ_t, the shrinking of all steps; one step shrank by √α_t.": tables(
                lambda x, e, al, a, b: (x - (1 - al) / (1 - a).sqrt() * e) / a.sqrt()
            ),
        },
        (
            Law(
                "test_03_reverse",
                "test_reverse_mean_is_the_posterior_mean_at_the_predicted_x_0",
                "reverse_mean",
            ),
        ),
    ),
    "DDPM Eq. 14": Exercise(
        loss,
        lambda: (lambda x, t: 0.3 * x + 0.1, *on_a_batch()),
        {
            "the network is shown the clean image: it must see x_t.": lambda f, s, x, t, e: (
                (e - f(x, t)).square().mean()
            ),
            "this compares with x_0; the network is asked for the noise ε.": lambda f, s, x, t, e: (
                (x - f(q_sample(s, x, t, e), t)).square().mean()
            ),
            "this is a sum: take the mean, or it grows with the batch.": lambda f, s, x, t, e: (
                (e - f(q_sample(s, x, t, e), t)).square().sum()
            ),
            "this is the absolute error, whose best answer is a median: square it.": (
                lambda f, s, x, t, e: (e - f(q_sample(s, x, t, e), t)).abs().mean()
            ),
        },
        (
            Law(
                "test_05_loss",
                "test_excess_loss_is_the_distance_to_the_exact_predictor",
                "simple_loss",
            ),
        ),
        simple_loss_of,
    ),
    "DDPM Alg. 1": Exercise(
        lambda n, T, generator: torch.randint(1, T + 1, (n,), generator=generator),
        lambda: (4000, 4, torch.Generator().manual_seed(0)),
        {
            "off by one: torch.randint leaves out its upper end, so this draws 0 … T − 1.": (
                lambda n, T, generator: torch.randint(0, T, (n,), generator=generator)
            ),
            "off by one: torch.randint leaves out its upper end, so T never comes.": (
                lambda n, T, generator: torch.randint(1, T, (n,), generator=generator)
            ),
            "off by one: t = 0 is clean data, and has no noise to predict.": (
                lambda n, T, generator: torch.randint(0, T + 1, (n,), generator=generator)
            ),
            "this is one t for the whole batch: each image has its own.": lambda n, T, generator: (
                torch.randint(1, T + 1, (1,), generator=generator).expand(n)
            ),
        },
        (Law("test_05_loss", "test_t_is_uniform_on_1_to_T_and_drawn_per_image", "simple_loss"),),
        drawn_by,
        lambda t: [float(t.shape == (4000,)), *sorted(set(t.tolist())), *[-1] * 6][:6],
    ),
}
