"""The oracle itself, against torch.distributions, autograd and a grid."""

import math

import pytest
import torch
from oracles import normal
from torch import distributions as D
from torch.testing import assert_close

from ddpm import GaussianMixture, linear_schedule

TIMES = torch.tensor([0, 1, 20, 300, 700, 1000])


def by_distributions(mixture, schedule, t):
    """p_t(x|k) for one t, from covariances instead of an eigenbasis."""
    alpha_bar = schedule.alpha_bar[t]
    covariance = torch.einsum("kij,kj,klj->kil", mixture.U, mixture.lam, mixture.U)
    identity = torch.eye(2, dtype=torch.float64)
    return D.MultivariateNormal(
        alpha_bar.sqrt() * mixture.mean, alpha_bar * covariance + (1 - alpha_bar) * identity
    )


@pytest.mark.parametrize("t", TIMES.tolist())
def test_densities_match_torch_distributions(schedule, mixture, t):
    """log p_t(x), log p_t(x|k) and p_t(k|x), from torch's MultivariateNormal and Bayes' rule."""
    x_t = normal((7, 2))
    batch_t = torch.full((7,), t)
    components = by_distributions(mixture, schedule, t)
    weight = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    whole = D.MixtureSameFamily(D.Categorical(weight), components)
    assert_close(mixture.log_prob(schedule, x_t, batch_t), whole.log_prob(x_t), rtol=0, atol=1e-11)
    joint = components.log_prob(x_t[:, None]) + weight.log()
    for k in range(3):
        c = torch.full((7,), k)
        log_p = mixture.log_prob(schedule, x_t, batch_t, c)
        assert_close(log_p, components.log_prob(x_t[:, None])[:, k], rtol=0, atol=1e-11)
    posterior = joint.exp() / joint.exp().sum(1, keepdim=True)
    actual = mixture.log_posterior(schedule, x_t, batch_t).exp()
    assert_close(actual, posterior, rtol=0, atol=1e-11)


def test_the_covariance_given_is_the_one_used(mixture):
    """U·diag(λ)·Uᵀ is the covariance that went in."""
    root = torch.tensor([[0.5, 0.0], [0.3, 0.4]], dtype=torch.float64)
    rebuilt = mixture.U[0] @ mixture.lam[0].diag() @ mixture.U[0].mT
    assert_close(rebuilt, root @ root.mT)


def test_noise_is_the_scaled_score(schedule, mixture):
    """ADM Eq. 11. The other road: autograd of the log-density, no formula for ε anywhere."""
    t = TIMES[1:].repeat_interleave(4)
    for c in (None, torch.arange(len(t)) % 4):  # 3 is ∅
        x_t = normal((len(t), 2)).requires_grad_()
        log_p = mixture.log_prob(schedule, x_t, t, c)
        (score,) = torch.autograd.grad(log_p.sum(), x_t)
        sigma = (1 - schedule.alpha_bar[t]).sqrt()[:, None]
        eps = mixture.eps(schedule)(x_t, t, c).detach()
        assert_close(eps, -sigma * score, rtol=0, atol=1e-11)


@pytest.mark.parametrize("t", [1, 100, 600, 1000])
def test_noise_is_the_conditional_mean_on_a_grid(schedule, line, t):
    """E[ε|x_t] by a sum over ε: p(ε|x_t) ∝ N(ε; 0, 1)·p_0((x_t − √(1−ᾱ)·ε)/√ᾱ)."""
    alpha_bar = float(schedule.alpha_bar[t])
    x_t = torch.tensor([[-2.2], [0.4], [1.7]], dtype=torch.float64)
    # one sum over x_0, where p_0 lives, since ε = (x_t − √ᾱ·x_0)/√(1−ᾱ) is linear in it
    x_0 = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    p_0 = sum((-0.5 * (x_0 - m) ** 2 / 0.25).exp() for m in (-3, 0, 3))
    eps = (x_t - math.sqrt(alpha_bar) * x_0) / math.sqrt(1 - alpha_bar)
    p = p_0 * (-0.5 * eps**2).exp()
    expected = (p * eps).sum(1) / p.sum(1)
    actual = line.eps(schedule)(x_t, torch.full((3,), t))
    assert_close(actual.flatten(), expected, rtol=0, atol=1e-9)


def test_null_is_the_posterior_mean_of_the_classes(schedule, mixture):
    """CFG Sec. 3.2: ε(∅) = Σ_c p(c|x_t)·ε(c), with both sides from autograd."""
    x_t, t = normal((6, 2)), TIMES[[1, 2, 3, 4, 5, 3]]
    eps, posterior = mixture.eps(schedule), mixture.log_posterior(schedule, x_t, t).exp()
    total = sum(posterior[:, k, None] * eps(x_t, t, torch.full((6,), k)) for k in range(3))
    assert_close(eps(x_t, t), total, rtol=0, atol=1e-12)
    assert_close(eps(x_t, t), eps(x_t, t, torch.full((6,), mixture.null_token)))


def test_samples_have_the_moments(mixture, generator):
    """Shares, means and covariances of what is drawn, each within 5 standard errors."""
    n = 200_000
    x_0, c = mixture.sample(n, generator)
    for k, p in enumerate((0.2, 0.5, 0.3)):
        assert abs((c == k).double().mean() - p) < 5 * (p * (1 - p) / n) ** 0.5
        x = x_0[c == k]
        covariance = mixture.U[k] @ mixture.lam[k].diag() @ mixture.U[k].mT
        error = (x.mean(0) - mixture.mean[k]).abs()
        assert (error < 5 * (covariance.diag() / len(x)).sqrt()).all()
        spread = covariance.diag()
        sigma = ((covariance**2 + spread[:, None] * spread) / len(x)).sqrt()
        assert ((x.T.cov() - covariance).abs() < 5 * sigma).all()


def test_only_the_ratio_of_the_weights_counts(line):
    """Weights 2 : 5 : 3 are 0.2, 0.5, 0.3, and none are uniform, by torch.distributions."""
    mean, covariance = line.mean, torch.full((3,), 0.25, dtype=torch.float64)
    schedule, x_0, t = linear_schedule(), normal((6, 1)), torch.zeros(6, dtype=torch.int64)
    for one, p in (
        (
            GaussianMixture(mean, covariance, torch.tensor([2.0, 5.0, 3.0]).double()),
            (0.2, 0.5, 0.3),
        ),
        (line, (1 / 3, 1 / 3, 1 / 3)),  # uniform by default
    ):
        p_0 = D.MixtureSameFamily(
            D.Categorical(torch.tensor(p, dtype=torch.float64)),
            D.Independent(D.Normal(mean, 0.5), 1),
        )
        assert_close(one.log_prob(schedule, x_0, t), p_0.log_prob(x_0), rtol=0, atol=1e-12)


def test_images_are_vectors_in_another_shape(generator):
    """A mean (K, 3, 2, 2) is one (K, 12), and variances (K,) are matrices c·I."""
    schedule = linear_schedule()
    mean = normal((2, 12))
    covariance = torch.tensor([0.3, 0.5], dtype=torch.float64)
    as_vectors = GaussianMixture(mean, covariance)
    as_images = GaussianMixture(mean.view(2, 3, 2, 2), covariance)
    as_matrices = GaussianMixture(mean, covariance[:, None, None] * torch.eye(12))
    x, c = as_images.sample(5, generator)
    assert x.shape == (5, 3, 2, 2) and c.shape == (5,)
    t = torch.tensor([1, 50, 300, 800, 1000])
    flat = x.flatten(1)
    image = as_images.eps(schedule)(x, t, c)
    assert image.shape == x.shape
    for other in (as_vectors, as_matrices):
        assert_close(image.flatten(1), other.eps(schedule)(flat, t, c), rtol=0, atol=1e-11)
        assert_close(
            as_images.log_prob(schedule, x, t),
            other.log_prob(schedule, flat, t),
            rtol=1e-11,
            atol=0,
        )


OVERLAP = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)


def overlapping(mixture):
    """The three Gaussians again, under four labels that may be true together."""
    covariance = torch.einsum("kij,kj,klj->kil", mixture.U, mixture.lam, mixture.U)
    weight = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    return GaussianMixture(mixture.mean, covariance, weight, OVERLAP), covariance, weight


@pytest.mark.parametrize("t", [0, 20, 300, 1000])
def test_a_concept_is_the_mixture_of_its_gaussians(schedule, mixture, t):
    """log p_t(x|k) is a mixture of k's Gaussians alone; p_t(k|x) by Bayes, Σ over what it has."""
    concepts, _, weight = overlapping(mixture)
    x_t, times = normal((7, 2)), torch.full((7,), t)
    log_p_m = by_distributions(mixture, schedule, t).log_prob(x_t[:, None])  # (7, 3)
    posterior = concepts.log_posterior(schedule, x_t, times).exp()
    for k, true in enumerate(OVERLAP):
        inside = (weight[true] * log_p_m.exp()[:, true]).sum(1)
        log_p = concepts.log_prob(schedule, x_t, times, torch.full((7,), k))
        assert_close(log_p, (inside / weight[true].sum()).log(), rtol=0, atol=1e-11)
        assert_close(posterior[:, k], inside / (weight * log_p_m.exp()).sum(1), rtol=0, atol=1e-11)
    assert (posterior.sum(1) > 1.5).all()  # the last is true of everything, and others are, too
    null = torch.full((7,), 4)
    assert_close(
        concepts.log_prob(schedule, x_t, times, null), mixture.log_prob(schedule, x_t, times)
    )


def test_a_concepts_noise_is_its_scaled_score(schedule, mixture):
    """ADM Eq. 11 for labels that overlap, by autograd of the restricted density."""
    concepts, *_, weight = overlapping(mixture)
    for t in (1, 300, 1000):
        components, sigma = (
            by_distributions(mixture, schedule, t),
            (1 - schedule.alpha_bar[t]) ** 0.5,
        )
        for k, true in enumerate([*OVERLAP, torch.ones(3, dtype=torch.bool)]):  # the last is ∅
            x_t = normal((5, 2)).requires_grad_()
            log_p_m = components.log_prob(x_t[:, None])[:, true] + weight[true].log()
            (score,) = torch.autograd.grad(log_p_m.logsumexp(1).sum(), x_t)
            eps = concepts.eps(schedule)(x_t.detach(), torch.full((5,), t), torch.full((5,), k))
            assert_close(eps, -sigma * score, rtol=0, atol=1e-11)


def test_a_class_is_a_concept_of_one_gaussian(schedule, mixture):
    """The identity as concepts is what no concepts are, bit for bit; so is a permuted one."""
    _, covariance, weight = overlapping(mixture)
    order = torch.tensor([2, 0, 1])
    named = GaussianMixture(mixture.mean, covariance, weight, torch.eye(3, dtype=torch.bool)[order])
    plain = GaussianMixture(mixture.mean, covariance, weight)
    x_t, t = normal((9, 2)), torch.tensor([1, 50, 1000]).repeat(3)
    c = torch.arange(9) % 4  # 3 is ∅
    theirs = torch.cat([order, torch.tensor([3])])[c]
    assert torch.equal(named.eps(schedule)(x_t, t, c), plain.eps(schedule)(x_t, t, theirs))
    assert torch.equal(
        named.log_prob(schedule, x_t, t, c), plain.log_prob(schedule, x_t, t, theirs)
    )
    assert torch.equal(
        named.log_posterior(schedule, x_t, t), plain.log_posterior(schedule, x_t, t)[:, order]
    )
    samples = [m.sample(50, torch.Generator().manual_seed(0)) for m in (named, plain)]
    assert all(map(torch.equal, *samples))


@pytest.mark.parametrize(
    ("concepts", "error", "message"),
    [
        (torch.ones(2, 3), TypeError, "concepts must be a tensor of bools"),
        ([[True, True, True]], TypeError, "concepts must be a tensor of bools"),
        (torch.ones(3, 2, dtype=torch.bool), ValueError, r"concepts must be \(K, 3\)"),
        (torch.ones(3, dtype=torch.bool), ValueError, r"concepts must be \(K, 3\)"),
        (torch.ones(0, 3, dtype=torch.bool), ValueError, r"concepts must be \(K, 3\)"),
        (torch.eye(4, dtype=torch.bool)[:, :3], ValueError, "3 is true of none"),
    ],
)
def test_concepts_must_fit_the_gaussians(concepts, error, message):
    """Types, shapes, and a concept that is true of nothing are refused by name."""
    mean, variance = torch.zeros(3, 1), torch.ones(3)
    with pytest.raises(error, match=message):
        GaussianMixture(mean, variance, concepts=concepts)
