"""L_simple, DDPM Eq. 14 and Alg. 1. On the mixture the best predictor is known, so the loss has
known excess."""

import pytest
import torch
from oracles import normal, seeded
from torch.testing import assert_close

from ddpm import linear_schedule, q_sample, simple_loss

N = 100_000


class Recorder:
    """A predictor that remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, x_t, t):
        self.x_t, self.t = x_t, t
        return self.answer(x_t, t)


def noise_behind(schedule, x_t, t, x_0):
    """Eq. 4 solved for ε."""
    alpha_bar = schedule.alpha_bar[t].view(-1, *[1] * (x_0.ndim - 1))
    return (x_t - alpha_bar.sqrt() * x_0) / (1 - alpha_bar).sqrt()


def test_excess_loss_is_the_distance_to_the_exact_predictor(schedule, mixture, generator):
    """DDPM Eq. 14: E‖ε−f‖² − E‖ε−ε*‖² = E‖f−ε*‖² for every f, because ε* = E[ε|x_t]."""
    x_0, _ = mixture.sample(N, generator)
    exact = mixture.eps(schedule)
    f = Recorder(lambda x_t, t: 0.5 * x_t + 0.2)
    excess = simple_loss(schedule, f, x_0, generator=seeded(3)) - simple_loss(
        schedule, exact, x_0, generator=seeded(3)
    )
    best, eps = exact(f.x_t, f.t), noise_behind(schedule, f.x_t, f.t, x_0)
    answer = f.answer(f.x_t, f.t)
    expected = (answer - best).square().mean()
    cross = 2 * ((eps - best) * (best - answer)).mean(
        1
    )  # its mean is 0, and it is all that differs
    standard_error = cross.std() / N**0.5
    assert abs(excess - expected) < 5 * standard_error
    assert expected > 50 * standard_error  # so that a wrong ε* is seen


def test_gradient_vanishes_at_the_exact_predictor(schedule, mixture, generator):
    """d/da of the loss of a·ε* + b is 0 at a = 1, b = 0, and not at a = 1.1, b = 0.1."""
    x_0, _ = mixture.sample(N, generator)
    exact = mixture.eps(schedule)
    for a_0, b_0, vanishes in ((1.0, 0.0, True), (1.1, 0.1, False)):
        a = torch.tensor(a_0, dtype=torch.float64, requires_grad=True)
        b = torch.tensor(b_0, dtype=torch.float64, requires_grad=True)
        f = Recorder(lambda x_t, t, a=a, b=b: a * exact(x_t, t) + b)
        simple_loss(schedule, f, x_0, generator=seeded(3)).backward()
        best, eps = exact(f.x_t, f.t), noise_behind(schedule, f.x_t, f.t, x_0)
        residual = a.detach() * best + b.detach() - eps
        for gradient, direction in ((a.grad, best), (b.grad, torch.ones_like(best))):
            standard_error = (2 * residual * direction).mean(1).std() / N**0.5
            assert (abs(gradient) < 5 * standard_error) == vanishes


def test_t_is_uniform_on_1_to_T_and_drawn_per_image():
    """DDPM Alg. 1: t ~ U{1, …, T}, by the counts of what the predictor was asked."""
    schedule, T = linear_schedule(20), 20
    f = Recorder(lambda x_t, t: torch.zeros_like(x_t))
    simple_loss(schedule, f, torch.zeros(N, 1), generator=seeded(3))
    counts = torch.bincount(f.t, minlength=T + 1)
    assert counts[0] == 0 and len(counts) == T + 1
    sigma = (N * (1 / T) * (1 - 1 / T)) ** 0.5
    assert ((counts[1:] - N / T).abs() < 5 * sigma).all()
    assert f.t.shape == (N,) and f.t.dtype == torch.int64


def test_noise_is_standard_normal_and_scaled_by_eq_4(schedule):
    """DDPM Eq. 4, 14; CFG Eq. 5: the ε behind x_t, by Eq. 4 solved for it, is N(0, I), and the
    loss of a predictor that answers 0 is its square."""
    f = Recorder(lambda x_t, t: torch.zeros_like(x_t))
    x_0 = torch.full((N, 2), 0.3, dtype=torch.float64)
    loss = simple_loss(schedule, f, x_0, generator=seeded(3))
    eps = noise_behind(schedule, f.x_t, f.t, x_0)
    assert abs(eps.mean()) < 5 / (2 * N) ** 0.5
    assert abs(eps.square().mean() - 1) < 5 * (2 / (2 * N)) ** 0.5
    assert_close(loss, eps.square().mean(), rtol=1e-9, atol=0)
    assert_close(f.x_t, q_sample(schedule, x_0, f.t, eps))
    correlation = (eps[:, 0] * eps[:, 1]).mean()
    assert abs(correlation) < 5 / N**0.5


@pytest.mark.parametrize("batch", [500, 50_000])
def test_loss_is_a_mean(schedule, batch):
    """A predictor that answers 0 has loss 1, whatever the batch and the image: no B², no 1/D."""
    for shape in ((batch, 2), (batch, 1, 2, 2)):
        zero = lambda x_t, t: torch.zeros_like(x_t)  # noqa: E731
        loss = simple_loss(schedule, zero, normal(shape), generator=seeded(3))
        count = normal(shape).numel()
        assert abs(loss - 1) < 5 * (2 / count) ** 0.5
