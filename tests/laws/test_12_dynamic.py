"""Dynamic negative guidance: DNG Eq. 10, Alg. 1.

With the exact λ = p/(1 − p) it is the score of all other classes.
"""

import pytest
import torch
from oracles import normal
from torch.testing import assert_close

from ddpm import GaussianMixture, linear_schedule
from guidance import negative_guidance, posterior_negative_guidance

NULL = 3


def exact(mixture, schedule, removed):
    return lambda x_t, t: mixture.log_posterior(schedule, x_t, t)[:, removed]


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_the_exact_posterior_deletes_the_class(schedule, mixture, removed):
    """DNG Eq. 10. The other road: the mixture that never had the component."""
    rest = [k for k in range(3) if k != removed]
    covariance = torch.einsum("kij,kj,klj->kil", mixture.U, mixture.lam, mixture.U)
    without = GaussianMixture(mixture.mean[rest], covariance[rest], mixture.log_weight.exp()[rest])
    t = torch.tensor([1, 20, 200, 500, 800, 1000])
    x_t = normal((6, 2))
    log_prob = exact(mixture, schedule, removed)
    odds = (1 / (1 - log_prob(x_t, t).exp())).max()
    guided = posterior_negative_guidance(
        mixture.eps(schedule), log_prob, removed, null=NULL, p_max=1 - 1e-9
    )
    # 1 − p loses digits as 1/(1 − p)
    assert_close(
        guided(x_t, t), without.eps(schedule)(x_t, t), rtol=0, atol=1e-12 * float(1 + odds) + 1e-11
    )


@pytest.mark.parametrize(("positive", "removed"), [(0, 1), (2, 1), (1, 2), (NULL, 0)])
def test_on_a_class_it_is_the_score_of_a_product(schedule, mixture, positive, removed):
    """DNG Eq. 10 with p₊ in the first place: ∇log[p_t(x|p₊)·(1 − p_t(c₋|x))], by autograd."""
    t, x_t = torch.tensor([1, 20, 200, 500, 800, 1000]), normal((6, 2)).requires_grad_()
    p = mixture.log_posterior(schedule, x_t, t)[:, removed].exp()
    log_p = mixture.log_prob(schedule, x_t, t, torch.full((6,), positive)) + torch.log1p(-p)
    (score,) = torch.autograd.grad(log_p.sum(), x_t)
    guided = posterior_negative_guidance(
        mixture.eps(schedule), exact(mixture, schedule, removed), removed, null=NULL,
        positive=positive, p_max=1 - 1e-9,
    )  # fmt: skip
    sigma = (1 - schedule.alpha_bar[t]).sqrt()[:, None]
    tolerance = 1e-11 * float((1 / (1 - p.detach())).max())
    assert_close(guided(x_t.detach(), t), -sigma * score, rtol=0, atol=tolerance)


@pytest.mark.parametrize("joint", [0.15, 0.24])  # 0.15 = P(p₊)·P(c₋): independent
def test_on_a_class_it_deletes_a_concept_that_is_independent_of_it(schedule, joint):
    """A subject on one axis (at 1, else −1, P = 0.3), a ring on the other (at 1, else −1, P = 0.5).
    Where neither says anything of the other, the product is the score of p(x|p₊, no ring), that
    of one Gaussian. Where they go together, x_t must show the subject first: nothing at t = T, all
    at t = 1."""
    weight = torch.tensor([joint, 0.3 - joint, 0.5 - joint, 0.2 + joint]).double()
    mean = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    variance = torch.full((4,), 0.05).double()
    concepts = torch.tensor([[True, True, False, False], [True, False, True, False]])
    world = GaussianMixture(mean, variance, weight, concepts)
    target = GaussianMixture(mean[1:2], variance[1:2])  # the subject without the ring
    log_prob = lambda x, t: world.log_posterior(schedule, x, t)[:, 1]  # noqa: E731
    guided = posterior_negative_guidance(
        world.eps(schedule), log_prob, 1, null=2, positive=0, p_max=1 - 1e-12
    )
    x_t = torch.tensor([[0.9, -0.8], [0.7, 0.4], [1.1, -0.2]]).double()
    missed = {}
    for t in (1, 300, 600, 1000):
        t_b = torch.full((3,), t)
        missed[t] = (guided(x_t, t_b) - target.eps(schedule)(x_t, t_b)).abs().max()
    if joint == 0.15:
        assert max(missed.values()) < 1e-6
    else:
        assert missed[600] > 1e-3 and missed[1] < 1e-6


def test_it_is_negative_guidance_with_a_weight_for_each_image(line):
    """DNG Alg. 1: λ_t = λ_0·p/(1 − p), capped, beside `negative_guidance` with those w."""
    schedule = linear_schedule()
    x_t = torch.tensor([[-3.0], [0.0], [0.9], [3.0]], dtype=torch.float64)
    t, p = torch.tensor([300, 300, 300, 300]), torch.tensor([0.0, 0.2, 0.8, 1.0])
    for scale in (0.5, torch.tensor([0.0, 1.0, 2.0, 3.0])):
        guided = posterior_negative_guidance(
            line.eps(schedule), lambda x, t: p.log(), 1, null=NULL, scale=scale, p_max=0.8
        )
        w = scale * torch.tensor([0.0, 0.25, 4.0, 4.0])
        expected = negative_guidance(line.eps(schedule), NULL, 1, w, null=NULL)
        assert_close(guided(x_t, t), expected(x_t, t), rtol=1e-6, atol=1e-6)


def test_classes_may_differ_within_a_batch(line):
    """DNG Eq. 10 with a class for each image: a batch is as many calls."""
    schedule, eps = linear_schedule(), line.eps(linear_schedule())
    x_t, t = normal((3, 1)), torch.tensor([100, 500, 900])
    removed = torch.tensor([2, 0, 1])

    def log_prob(x_t, t):
        return line.log_posterior(schedule, x_t, t).gather(1, removed[:, None])[:, 0]

    together = posterior_negative_guidance(eps, log_prob, removed, null=NULL)(x_t, t)
    for i, k in enumerate(removed.tolist()):
        alone = posterior_negative_guidance(eps, exact(line, schedule, k), k, null=NULL)
        assert_close(alone(x_t[i : i + 1], t[i : i + 1]), together[i : i + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_several_classes_at_once_are_the_mixture_of_them(schedule, mixture, kept):
    """DNG Eq. 10 with c₋ "one of these": p = Σ p_k and ε(c₋) = Σ p_k·ε(k) / Σ p_k over them delete
    them all, and leave the Gaussian that is kept. Their plain mean is another prediction."""
    removed = [k for k in range(3) if k != kept]
    t, x_t = torch.tensor([200, 350, 500, 650, 800, 1000]), normal((6, 2))
    eps = mixture.eps(schedule)

    def log_p(x_t, t):
        return mixture.log_posterior(schedule, x_t, t)[:, removed]  # (B, 2)

    def guided(weights):
        def either(x_t, t, c):  # ε of the set stands where its first class is asked for
            p = weights(log_p(x_t, t))  # (B, 2)
            each = torch.stack([eps(x_t, t, torch.full_like(c, k)) for k in removed], dim=1)
            together = torch.einsum("bk,bkd->bd", p, each)
            return torch.where((c == removed[0])[:, None], together, eps(x_t, t, c))

        log_any = lambda x_t, t: log_p(x_t, t).logsumexp(1)  # noqa: E731
        return posterior_negative_guidance(either, log_any, removed[0], null=NULL, p_max=1 - 1e-9)

    exact = eps(x_t, t, torch.full((6,), kept))
    odds = (1 / log_p(x_t, t).logsumexp(1).exp().neg().add(1)).max()
    tolerance = 1e-12 * float(1 + odds) + 1e-11  # 1 − p loses digits as 1/(1 − p)
    by_posterior = guided(lambda log_p: log_p.softmax(1))(x_t, t)
    assert_close(by_posterior, exact, rtol=0, atol=tolerance)
    by_plain_mean = guided(lambda log_p: torch.full_like(log_p, 0.5))(x_t, t)
    assert (by_plain_mean - exact).abs().max() > 0.01
