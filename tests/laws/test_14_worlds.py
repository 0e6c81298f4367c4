"""What theory says of the exact worlds, by other roads: integrals, autograd, the quantile map."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import distributions as D

from ddpm import GaussianMixture, Schedule, cosine_schedule, ddim
from guidance import negative_guidance
from train.experiments.exact import square
from train.experiments.predicted import (
    critical_log_snr,
    discriminability,
    early_window,
    overlap_cosine,
)

SIZES = [(0.4, 0.01), (0.8, 0.01), (3.0, 0.25), (6.4, 1.0)]


def at(log_snr):
    """A schedule of one step whose ᾱ_1 has this log-SNR."""
    return Schedule([1 / (1 + math.exp(log_snr))])


def two(separation, variance, prior):
    """Two Gaussians on a line; the second is p₋."""
    mean = torch.tensor([[0.3], [0.3 + separation]], dtype=torch.float64)
    weight = torch.tensor([1 - prior, prior], dtype=torch.float64)
    return GaussianMixture(mean, torch.full((2,), variance, dtype=torch.float64), weight)


def posterior(separation, variance, prior, log_snr):
    """On a grid of x_t: its weights under p_t(x_t|k), (2, G), and logit p_t(p₋|x_t), (G,)."""
    schedule, mixture = at(log_snr), two(separation, variance, prior)
    reach = 12 + 2 * separation
    x = torch.linspace(-reach, reach, 20_001, dtype=torch.float64)[:, None]
    log_p = [mixture.log_prob(schedule, x, 1, torch.full((len(x),), k)) for k in (0, 1)]
    weights = torch.stack(log_p).exp() * float(x[1] - x[0])
    log_post = mixture.log_posterior(schedule, x, 1)
    return weights, log_post[:, 1] - log_post[:, 0]


@pytest.mark.parametrize("prior", [0.5, 0.2, 0.02])
@pytest.mark.parametrize(("separation", "variance"), SIZES)
def test_the_posteriors_logit_is_normal_with_the_width_d(separation, variance, prior):
    """At critical_log_snr the logit of the posterior, summed over a grid of x_t, has the means
    logit π ± d²/2 and the standard deviation d, for pictures with p₋ and without."""
    for d in (1.0, 2.0):
        log_snr = critical_log_snr(separation, variance, d)
        weights, logit = posterior(separation, variance, prior, log_snr)
        for k, sign in ((0, -1), (1, 1)):
            assert float(weights[k].sum()) == pytest.approx(1, abs=1e-9)
            mean = float((weights[k] * logit).sum())
            sd = float((weights[k] * (logit - mean) ** 2).sum()) ** 0.5
            assert mean == pytest.approx(math.log(prior / (1 - prior)) + sign * d**2 / 2, abs=1e-7)
            assert sd == pytest.approx(d, abs=1e-7)
        assert discriminability(separation, variance, log_snr) == pytest.approx(d, rel=1e-12)


def information(separation, variance, prior, log_snr):
    """Mutual information of p₋ and x_t in bits: the mean of KL(p(·|x_t) ‖ prior)."""
    weights, logit = posterior(separation, variance, prior, log_snr)
    p, of = torch.sigmoid(logit), prior * weights[1] + (1 - prior) * weights[0]
    kl = torch.special.xlogy(p, p / prior) + torch.special.xlogy(1 - p, (1 - p) / (1 - prior))
    return float((of * kl).sum()) / math.log(2)


@pytest.mark.parametrize("prior", [0.5, 0.2, 0.02])
def test_what_is_known_at_the_critical_log_snr_is_the_same_for_every_separation(prior):
    """One mutual information for all sizes: that of a logit drawn from its normal law, by quad.
    Of an even concept it is half of its bit; a nat of log-SNR earlier or later it is not."""

    def told(d):
        def kl(z, sign):
            l = math.log(prior / (1 - prior)) + sign * d * d / 2 + d * z  # noqa: E741
            p = 1 / (1 + math.exp(-l))
            return norm.pdf(z) * (p * math.log2(p / prior)
                                  + (1 - p) * math.log2((1 - p) / (1 - prior)))  # fmt: skip

        return sum(w * quad(kl, -8, 8, (s,))[0] for w, s in ((prior, 1), (1 - prior, -1)))

    for size in SIZES:
        critical = critical_log_snr(*size)
        assert information(*size, prior, critical) == pytest.approx(told(2), abs=1e-6)
        before, after = (information(*size, prior, critical + step) for step in (-1, 1))
        assert before < 0.6 * told(2) and after > 1.2 * told(2)
    if prior == 0.5:
        assert told(2) == pytest.approx(0.486, abs=5e-4)


@pytest.mark.parametrize(("separation", "variance"), SIZES)
def test_the_second_hill_of_an_even_pair_grows_at_the_critical_log_snr(separation, variance):
    """p_t of even weights has one hill before it and two after: the curvature of log p_t half-way,
    by autograd, is negative, 0 and positive."""
    mixture, critical = two(separation, variance, 0.5), critical_log_snr(separation, variance)
    signs = []
    for step in (-0.05, 0, 0.05):
        schedule = at(critical + step)
        middle = schedule.alpha_bar[1].sqrt() * mixture.mean.mean(0, keepdim=True)
        x = middle.requires_grad_()
        first = torch.autograd.grad(mixture.log_prob(schedule, x, 1).sum(), x, create_graph=True)
        signs.append(float(torch.autograd.grad(first[0].sum(), x)[0]))
    assert signs[0] < -1e-3 and abs(signs[1]) < 1e-9 and signs[2] > 1e-3


def test_a_concept_within_the_spread_of_the_rest_is_never_decided():
    """δ ≤ 2·s: clean data have d′ ≤ 2, and there is no such log-SNR."""
    assert critical_log_snr(1.0, 1.0) == critical_log_snr(2.0, 1.0) == math.inf
    assert discriminability(2.0, 1.0, math.inf) == 2
    assert math.isfinite(critical_log_snr(2.01, 1.0))


TABLES = [(0.5, 0.3, 0.0), (0.5, 0.3, 0.1), (0.5, 0.3, 0.15), (0.5, 0.3, 0.3), (0.2, 0.6, 0.15)]


@pytest.mark.parametrize(("plus", "minus", "both"), TABLES)
def test_the_pulls_are_parallel_where_concepts_meet_more_often_than_by_chance(plus, minus, both):
    """Their cosine has the sign of P(p₊, p₋) − P(p₊)·P(p₋) at every x_t, and is 0 at chance; at
    x_T it is the formula's. The pulls by autograd of Σ_m over the Gaussians of each concept."""
    mixture = square(plus, minus, both, (2.0, 2.0), 0.05)
    concepts = [*mixture.concepts, torch.ones(len(mixture.mean), dtype=torch.bool)]
    covariance, generator = both - plus * minus, torch.Generator().manual_seed(0)
    for log_snr in (-18.0, -3.0, -1.0, 0.0):
        alpha_bar = 1 / (1 + math.exp(-log_snr))
        x = 2 * torch.randn(200, 2, generator=generator, dtype=torch.float64)
        x.requires_grad_()
        v = alpha_bar * 0.05 + 1 - alpha_bar
        joint = D.Normal(alpha_bar**0.5 * mixture.mean, v**0.5).log_prob(x[:, None]).sum(2)
        joint = joint + mixture.log_weight
        scores = [torch.autograd.grad(joint[:, c].logsumexp(1).sum(), x, retain_graph=True)[0]
                  for c in concepts]  # fmt: skip
        a, b = scores[0] - scores[2], scores[1] - scores[2]
        dot = (a * b).sum(1)
        size = a.norm(dim=1) * b.norm(dim=1)
        if abs(covariance) < 1e-12:
            assert float((dot / size.clamp(min=1e-9)).abs().max()) < 1e-6
            continue
        clear = size > 1e-12
        assert clear.double().mean() > 0.9
        assert bool((dot[clear] * covariance > 0).all())
        if log_snr == -18:
            expected = overlap_cosine(plus, minus, both)
            assert float((dot / size - expected).abs().max()) < 2e-3  # √SNR is 1e-4


@pytest.mark.parametrize("towards", [1, -1])
def test_an_early_window_moves_the_quantile(towards):
    """The share of x_T that ends in a rare Gaussian far out on a line, where p₋ acts in the first
    steps alone: DDIM keeps the order of the points, so a fine row of x_T shows the last that does.
    p₋ on the other side multiplies it, p₋ = the rare one itself divides it."""
    schedule, w, rare, stop = cosine_schedule(), 4.0, 0.02, 900
    mean = torch.tensor([[0.0], [-1.5], [1.5]], dtype=torch.float64)
    weight = torch.tensor([0.5, rare, 0.48], dtype=torch.float64)
    concepts = torch.tensor([[False, towards < 0, towards > 0]])
    mixture = GaussianMixture(mean, torch.full((3,), 0.01, dtype=torch.float64), weight, concepts)
    eps = negative_guidance(mixture.eps(schedule), 1, 0, w, null=1, stop=stop)
    x_T = torch.linspace(-4, 0, 801, dtype=torch.float64)[:, None]
    *_, last = ddim(schedule, eps, x_T, 200, clip=None)
    assert bool((last.x[1:] > last.x[:-1]).all())
    share = norm.cdf(float(x_T[last.x < -0.75].max()))
    mean_null = float(mixture.log_weight.exp() @ mean[:, 0])
    pull = w * (1.5 * towards - mean_null)
    log_snr = float((schedule.alpha_bar[stop] / (1 - schedule.alpha_bar[stop])).log())
    predicted = early_window(rare, pull, log_snr)
    assert predicted / rare > 2 if towards > 0 else predicted / rare < 0.2
    # 0.1 of a standard deviation: 1/√SNR is six, beside a world of ±1.5
    assert norm.ppf(share) == pytest.approx(norm.ppf(predicted), abs=0.1)
