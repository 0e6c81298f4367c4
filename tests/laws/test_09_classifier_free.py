"""Classifier-free guidance: CFG Eq. 1–6, Alg. 1, 2."""

import pytest
import torch
from oracles import Spy, last, moments, normal, seeded
from torch.testing import assert_close

from ddpm import GaussianMixture, ancestral, ddim, linear_schedule, q_posterior, timesteps
from guidance import classifier_free_guidance, drop_labels
from guidance.app.draw import window

N = 100_000
T6 = torch.tensor([1, 20, 200, 500, 800, 1000])
C6 = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.3, 2.0, 7.5])
def test_eq_6_is_the_score_of_the_tilted_density(schedule, mixture, w):
    """CFG Eq. 6, Sec. 3.2: −√(1−ᾱ)·∇[log p(x_t|c) + w·log p(c|x_t)] by autograd."""
    x_t = normal((6, 2)).requires_grad_()
    log_p = mixture.log_prob(schedule, x_t, T6, C6)
    log_c = mixture.log_posterior(schedule, x_t, T6)[torch.arange(6), C6]
    (score,) = torch.autograd.grad((log_p + w * log_c).sum(), x_t)
    sigma = (1 - schedule.alpha_bar[T6]).sqrt()[:, None]
    guided = classifier_free_guidance(mixture.eps(schedule), C6, w, null=3)
    assert_close(guided(x_t.detach(), T6), -sigma * score, rtol=0, atol=1e-10)


def test_the_implicit_classifier(schedule, mixture):
    """∇log p(c|x_t) = −[ε(c) − ε(∅)]/√(1−ᾱ), from p(c|z) ∝ p(z|c)/p(z)."""
    x_t = normal((6, 2)).requires_grad_()
    log_c = mixture.log_posterior(schedule, x_t, T6)[torch.arange(6), C6]
    (g,) = torch.autograd.grad(log_c.sum(), x_t)
    sigma = (1 - schedule.alpha_bar[T6]).sqrt()[:, None]
    eps, x = mixture.eps(schedule), x_t.detach()
    assert_close(eps(x, T6, C6) - eps(x, T6), -sigma * g, rtol=0, atol=1e-11)


def test_the_two_ways_to_write_the_scale(schedule, mixture):
    """(1+w)·ε(c) − w·ε(∅) = ε(∅) + s·(ε(c) − ε(∅)) with s = 1 + w; 0 is off and −1 is ∅."""
    x_t, eps = normal((6, 2)), mixture.eps(schedule)
    eps_c, eps_null = eps(x_t, T6, C6), eps(x_t, T6)

    def guided(w):
        return classifier_free_guidance(eps, C6, w, null=3)(x_t, T6)

    for w in (-1.0, 0.0, 0.5, 6.5):
        s = 1 + w
        assert_close(guided(w), eps_null + s * (eps_c - eps_null), rtol=0, atol=1e-12)
    assert torch.equal(guided(0.0), eps_c)
    assert_close(guided(1e-9), eps_c, rtol=0, atol=1e-7)  # no jump at 0
    assert torch.equal(guided(-1.0), eps_null)
    assert_close(guided(1.0) - eps_c, eps_c - eps_null)  # away from ∅, not towards it


def test_log_snr_form_of_the_kernels(schedule):
    """CFG Eq. 1–4 in λ = log(ᾱ/(1−ᾱ)) are the DDPM kernels, neighbours and strides alike."""
    for visited in (range(1000, 0, -1), (1000, 900, 555, 20, 1)):
        sub = schedule.subsequence(list(visited))
        lam = (sub.alpha_bar / (1 - sub.alpha_bar)).log()[1:]  # λ_1 … λ_S
        assert_close(lam.sigmoid(), sub.alpha_bar[1:])  # Eq. 1: α_λ² = 1/(1 + e^{−λ})
        hi, lo = lam[:-1], lam[1:]  # λ' = less noise, λ = more
        alpha_hi, alpha_lo = hi.sigmoid().sqrt(), lo.sigmoid().sqrt()
        growth = -torch.expm1(lo - hi)  # 1 − e^{λ−λ'}
        eq_2 = growth * (-lo).sigmoid()
        assert_close(eq_2, sub.beta[2:], rtol=1e-7, atol=0)
        n = len(lo)
        x, z, i = normal((n, 1)), normal((n, 1), 1), torch.arange(2, n + 2)
        mean, variance = q_posterior(sub, x, z, i)
        shrink = (lo - hi).exp() * alpha_hi / alpha_lo
        eq_3 = shrink * z.flatten() + growth * alpha_hi * x.flatten()
        assert_close(mean.flatten(), eq_3, rtol=1e-7, atol=1e-10)
        small = growth * (-hi).sigmoid()
        assert_close(variance.flatten(), small, rtol=1e-7, atol=0)
        for v, table in ((0.0, sub.posterior_variance), (1.0, sub.beta)):  # Eq. 4
            assert_close(small ** (1 - v) * eq_2**v, table[2:], rtol=1e-7, atol=0)


def counter_example():
    """Bradley & Nakkiran: p(x) = N(0, 2), p(x|c) = N(0, 1), both exact."""
    schedule = linear_schedule()
    zero = torch.zeros(1, 1, dtype=torch.float64)
    given, free = (
        GaussianMixture(zero, torch.tensor([v], dtype=torch.float64)).eps(schedule)
        for v in (1.0, 2.0)
    )

    def eps(x_t, t, c):
        return torch.where((c == 0)[:, None], given(x_t, t), free(x_t, t))

    return schedule, eps


def test_guidance_does_not_sample_the_tilted_density():
    """CFG Alg. 2: variances 2^{1−γ} under DDIM and (2 − 2^{2−2γ})/(2γ − 1) under ancestral
    sampling, where the tilted target p(x|c)^γ·p(x)^{1−γ} has 2/(γ+1). The formulas hold for
    infinitely many steps from infinite noise; T = 1000 comes within 1.5 %."""
    schedule, eps = counter_example()
    gamma = torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=torch.float64)
    # DDIM is linear here: one image x_T = 1 tells the factor, and its square is the variance.
    guided, one = classifier_free_guidance(eps, 0, gamma - 1, null=1), torch.ones(4, 1).double()
    by_ddim = last(ddim(schedule, guided, one, clip=None)).x.flatten().square()
    assert_close(by_ddim, 2 ** (1 - gamma), rtol=0.015, atol=0)

    paths, x_T = 6, normal((24, 1))
    guided = classifier_free_guidance(eps, 0, gamma.repeat_interleave(paths) - 1, null=1)
    process = ancestral(schedule, guided, x_T, clip=None, generator=seeded())
    *_, (_, mean, by_ddpm) = moments(process, x_T, seeded(), groups=4)
    assert mean.abs().max() < 1e-9
    by_ddpm = by_ddpm.flatten()
    assert_close(by_ddpm, (2 - 2 ** (2 - 2 * gamma)) / (2 * gamma - 1), rtol=0.015, atol=0)
    tilted = 2 / (gamma + 1)
    assert (by_ddim < 0.9 * tilted)[1:].all() and (by_ddpm < 0.9 * tilted)[1:].all()


def test_one_network_pass_of_twice_the_batch():
    """Both ε of CFG Eq. 6 come from one batch of 2B: first c, then ∅."""
    spy, x_t, t = Spy(), normal((3, 1, 2, 2)), torch.tensor([4, 5, 6])
    c = torch.tensor([2, 0, 1])
    out = classifier_free_guidance(spy, c, 2.0, null=9)(x_t, t)
    ((x, times, labels),) = spy.calls
    assert torch.equal(x, torch.cat([x_t, x_t])) and torch.equal(times, torch.cat([t, t]))
    assert labels.tolist() == [2, 0, 1, 9, 9, 9]
    factor = 3 * (1 + c.double()) - 2 * 10
    assert_close(out, x_t * factor.view(-1, 1, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({"w": 0.0}, 3),
        ({"w": torch.zeros(3)}, 3),
        ({"w": 2.0, "start": 3}, 3),  # t = 4, 5, 6 are before it
        ({"w": 2.0, "stop": 6}, 3),
        ({"w": 2.0, "start": 5}, 6),  # one of the three is guided
        ({"w": torch.tensor([0.0, 0.0, 1.0])}, 6),
        ({"w": -1.0}, 6),
    ],
)
def test_a_pass_that_changes_nothing_is_not_made(arguments, asked):
    """CFG Eq. 6 with w(t) = 0 for every image is ε(c), of a batch of B: bit for bit what a network
    says that is asked once. One guided image is enough for the batch of 2B."""
    spy, x_t, t = Spy(), normal((3, 2)), torch.tensor([4, 5, 6])
    c = torch.tensor([2, 0, 1])
    out = classifier_free_guidance(spy, c, null=9, **arguments)(x_t, t)
    ((x, _, labels),) = spy.calls
    assert len(x) == asked and torch.equal(labels[:3], c)
    start, stop = arguments.get("start", 6), arguments.get("stop", 0)
    w = torch.as_tensor(arguments["w"]) * ((t <= start) & (t > stop))
    assert_close(out, x_t * ((1 + w) * (1 + c) - w * 10)[:, None].double(), rtol=1e-14, atol=0)
    if asked == 3:
        assert torch.equal(out, x_t * (1 + c)[:, None])


def test_w_and_c_per_image():
    """CFG Eq. 6 with w and c for each image: a batch is as many calls."""
    spy, x_t, t = Spy(), normal((3, 2)), torch.tensor([4, 5, 6])
    w = torch.tensor([0.0, 1.0, 5.0])
    together = classifier_free_guidance(spy, torch.tensor([2, 0, 1]), w, null=3)(x_t, t)
    for k, c in enumerate((2, 0, 1)):
        one = slice(k, k + 1)
        alone = classifier_free_guidance(spy, c, float(w[k]), null=3)(x_t[one], t[one])
        assert_close(together[one], alone)
    assert spy.calls[-1][2].tolist() == [1, 3] and spy.calls[-1][2].dtype == torch.int64


def test_labels_are_dropped_for_each_image_on_its_own():
    """CFG Alg. 1: Bernoulli(p_uncond) per sample, independent of the class."""
    K, p = 10, 0.1
    c = torch.arange(K).repeat(N // K)
    kept = drop_labels(c, p, null=K, generator=seeded(3))
    dropped = kept == K
    assert torch.equal(kept[~dropped], c[~dropped])
    for k in range(K):
        share = dropped[c == k].double().mean()
        assert abs(share - p) < 5 * (p * (1 - p) / (N / K)) ** 0.5
    neighbours = (dropped[1:] & dropped[:-1]).double().mean()  # not one draw for many images
    assert abs(neighbours - p**2) < 5 * (2 * p**2 / N) ** 0.5


def test_label_dropout_at_its_ends(monkeypatch):
    """CFG Alg. 1 with p_uncond = 0 and 1: no label is dropped, or every one."""
    c = torch.arange(10).repeat(100)
    assert torch.equal(drop_labels(c, 0.0, null=10), c)
    assert (drop_labels(c, 1.0, null=10) == 10).all()
    # a draw of exactly 0 does occur, once in 2^24
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    assert torch.equal(drop_labels(c, 0.0, null=10), c)


@pytest.mark.parametrize("per_image", [False, True])
def test_outside_of_its_interval_guidance_is_off(schedule, mixture, per_image):
    """Kynkäänniemi et al. 2024: w where stop < t ≤ start, 0 elsewhere. By autograd the
    score of p(x|c)·p(c|x)^w(t); bit for bit ε(c) outside, and CFG Eq. 6 inside."""
    t = torch.tensor([1000, 501, 500, 499, 201, 200, 199, 1])
    inside = torch.tensor([False, False, True, True, True, False, False, False])
    c, w, x_t = torch.arange(8) % 3, 1.7, normal((8, 2)).requires_grad_()
    start, stop = (torch.full((8,), v) for v in (500, 200)) if per_image else (500, 200)
    eps = mixture.eps(schedule)
    guided = classifier_free_guidance(eps, c, w, null=3, start=start, stop=stop)(x_t.detach(), t)
    everywhere = classifier_free_guidance(eps, c, w, null=3)(x_t.detach(), t)
    assert torch.equal(guided[inside], everywhere[inside])
    both = eps(*(torch.cat([v, v]) for v in (x_t.detach(), t, c)))  # the same batch, the same bits
    assert torch.equal(guided[~inside], both[:8][~inside])
    log_p = mixture.log_prob(schedule, x_t, t, c)
    log_c = mixture.log_posterior(schedule, x_t, t)[torch.arange(8), c]
    (score,) = torch.autograd.grad((log_p + w * inside.double() * log_c).sum(), x_t)
    sigma = (1 - schedule.alpha_bar[t]).sqrt()[:, None]
    assert_close(guided, -sigma * score, rtol=0, atol=1e-10)


@pytest.mark.parametrize("k", range(7))
def test_the_first_and_the_last_guided_step(schedule, mixture, k):
    """Steps start, …, stop − 1 are guided and no other; each image may have its own interval."""
    eps, x_T, steps = mixture.eps(schedule), normal((3, 2)), timesteps(1000, 6)
    start, stop = zip(*(window(1000, 6, *ends) for ends in ((k, 6), (0, k), (0, 6))), strict=True)
    guided = classifier_free_guidance(
        eps, 1, 2.0, null=3, start=torch.tensor(start), stop=torch.tensor(stop)
    )
    plain = classifier_free_guidance(eps, 1, 0.0, null=3)
    for step, t in enumerate(steps):
        t_b = torch.full((3,), t)
        same = (guided(x_T, t_b) == plain(x_T, t_b)).all(1).tolist()
        assert same == [step < k, step >= k, False]
