"""Negative guidance and its start step: NegPrompt Eq. 4, 5.

What should be equal is so bit for bit.
"""

import pytest
import torch
from oracles import Spy, last, normal, seeded
from torch.testing import assert_close

from ddpm import GaussianMixture, ancestral, ddim, linear_schedule, timesteps
from guidance import classifier_free_guidance, negative_guidance
from guidance.app.draw import window
from unet import UNet

S, W, P, N, NULL = 8, 1.5, 0, 2, 3
VISITED = timesteps(1000, S)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    model = UNet(size=8, classes=3, width=8, multipliers=(1, 2), blocks=1, attention=(4,)).eval()
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return model


@pytest.fixture(params=["mixture", "unet"])
def world(request, mixture, unet):
    """(schedule, eps, x_T): the exact predictor in float64, and a network in float32."""
    schedule = linear_schedule()
    if request.param == "mixture":
        return schedule, mixture.eps(schedule), normal((4, 2))
    return schedule, unet, normal((4, 1, 8, 8)).float()


def states(world, predictor, sampler="ancestral"):
    schedule, _, x_T = world
    generator = torch.Generator().manual_seed(7)
    make = ancestral if sampler == "ancestral" else ddim
    return [step.x for step in make(schedule, predictor, x_T, S, generator=generator)]


def negative(world, **kwargs):
    return negative_guidance(world[1], P, kwargs.pop("negative", N), W, null=NULL, **kwargs)


def all_equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_null_as_the_negative_class_is_classifier_free_guidance(world):
    """NegPrompt Eq. 4, 5: with ∅ in the place of p₋ the second is the first, bit for bit."""
    free = classifier_free_guidance(world[1], P, W, null=NULL)
    assert all_equal(states(world, free), states(world, negative(world, negative=NULL)))


def test_eq_5_on_the_exact_predictor(schedule, mixture):
    """NegPrompt Eq. 5: (1+w)·ε(p₊) − w·ε(p₋) is the score of p(x|p₊)^{1+w}·p(x|p₋)^{−w}, by
    autograd."""
    t = torch.tensor([1, 20, 200, 500, 800, 1000])
    x_t = normal((6, 2)).requires_grad_()
    plus, minus = (mixture.log_prob(schedule, x_t, t, torch.full((6,), c)) for c in (P, N))
    (score,) = torch.autograd.grad(((1 + W) * plus - W * minus).sum(), x_t)
    sigma = (1 - schedule.alpha_bar[t]).sqrt()[:, None]
    guided = negative_guidance(mixture.eps(schedule), P, N, W, null=NULL)
    assert_close(guided(x_t.detach(), t), -sigma * score, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_start_at_the_first_step_is_always_on(world, sampler):
    """NegPrompt Eq. 5 from step 0 is Eq. 5 without a start step, and not Eq. 4."""
    always = states(world, negative(world), sampler)
    assert all_equal(always, states(world, negative(world, start=VISITED[0]), sampler))
    free = classifier_free_guidance(world[1], P, W, null=NULL)
    assert not torch.equal(always[0], states(world, free, sampler)[0])


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
@pytest.mark.parametrize("k", range(S + 1))
def test_the_first_state_that_differs_is_the_one_after_the_start_step(world, sampler, k):
    """Start step k: k updates as classifier-free guidance makes them, bit for bit, and not one
    more. k = S is never."""
    free = states(world, classifier_free_guidance(world[1], P, W, null=NULL), sampler)
    start, stop = window(1000, S, k)
    late = states(world, negative(world, start=start, stop=stop), sampler)
    same = [torch.equal(a, b) for a, b in zip(free, late, strict=True)]
    assert same == [True] * k + [False] * (S - k)


@pytest.mark.parametrize("k", range(S + 1))
def test_the_stop_step_is_the_first_update_without_the_negative_class(world, k):
    """By the tokens that the network is asked for: p₋ from the start step to the one before the
    stop step, ∅ at every other."""
    schedule, eps, _ = world
    labels = []

    def spy(x_t, t, c):
        labels.append(c[len(c) // 2 :].tolist())
        return eps(x_t, t, c)

    start, stop = window(1000, S, min(2, k), k)
    predictor = negative_guidance(spy, P, N, W, null=NULL, start=start, stop=stop)
    states((schedule, spy, world[2]), predictor)
    expected = [N if min(2, k) <= step < k else NULL for step in range(S)]
    assert labels == [[token] * 4 for token in expected]


def test_a_window_per_image_is_as_many_runs(world):
    """start, stop, w and both classes as (B,): each image goes its own way."""
    schedule, eps, x_T = world
    start = torch.tensor([1000, VISITED[3], VISITED[5], 0])
    stop = torch.tensor([0, VISITED[6], 0, 0])
    w = torch.tensor([0.5, 1.0, 2.0, 3.0])
    positive, minus = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 0, 0])
    together = negative_guidance(eps, positive, minus, w, null=NULL, start=start, stop=stop)
    batch = [step.x for step in ddim(schedule, together, x_T, S)]
    for k in range(4):
        alone = negative_guidance(
            eps,
            int(positive[k]),
            int(minus[k]),
            float(w[k]),
            null=NULL,
            start=int(start[k]),
            stop=int(stop[k]),
        )
        single = [step.x for step in ddim(schedule, alone, x_T[k : k + 1], S)]
        for a, b in zip(batch, single, strict=True):  # other batch sizes, other order of sums
            tolerance = 1e-9 if a.dtype == torch.float64 else 1e-4
            assert_close(a[k : k + 1], b, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "kind",
    [int, float, torch.tensor, lambda t: torch.full((5,), float(t))],
    ids=["int", "float", "tensor", "per image"],
)
def test_a_time_is_never_cast(kind):
    """start and stop act at the very t that they name, whatever the images are made of: bfloat16
    would round 999 to 1000 and 499 to 500."""
    x_t, t = normal((5, 2)).bfloat16(), torch.tensor([1000, 999, 500, 499, 498])
    spy = Spy()
    negative_guidance(spy, P, N, W, null=NULL, start=kind(999), stop=kind(499))(x_t, t)
    assert spy.calls[0][2][5:].tolist() == [NULL, N, N, NULL, NULL]


def test_the_positive_class_as_its_own_negative_is_plain_conditional(world):
    """NegPrompt Eq. 5 with p₋ = p₊: w cancels."""
    eps = world[1]
    own = states(world, negative(world, negative=P))
    plain = states(world, lambda x_t, t: eps(x_t, t, torch.full((4,), P)))
    for a, b in zip(own, plain, strict=True):
        assert_close(a, b, rtol=0, atol=1e-9 if a.dtype == torch.float64 else 1e-4)


def test_one_network_pass_of_twice_the_batch(mixture):
    """Both ε of NegPrompt Eq. 5 come from one batch of 2B: first p₊, then p₋."""
    schedule = linear_schedule()
    calls = []

    def spy(x_t, t, c):
        calls.append((len(x_t), c.tolist()))
        return mixture.eps(schedule)(x_t, t, c)

    negative_guidance(spy, P, N, W, null=NULL)(normal((2, 2)), torch.tensor([5, 5]))
    assert calls == [(4, [P, P, N, N])]


@pytest.mark.parametrize(
    ("positive", "w", "start", "asked"),
    [
        (P, W, None, 6),
        (P, 0.0, None, 3),
        (P, W, 3, 6),
        (NULL, W, 3, 3),
        (NULL, W, 5, 6),
        (N, W, 9, 3),
    ],
)
def test_a_pass_that_changes_nothing_is_not_made(positive, w, start, asked):
    """NegPrompt Eq. 5 where both tokens are one, as ∅ and ∅ are before the start step (t = 4, 5, 6
    here), or where w = 0: ε(p₊), of a batch of B."""
    spy, x_t, t = Spy(), normal((3, 2)), torch.tensor([4, 5, 6])
    out = negative_guidance(spy, positive, N, w, null=NULL, start=start)(x_t, t)
    ((x, _, _),) = spy.calls
    assert len(x) == asked
    second = torch.where(t <= (start or 6), N, NULL)
    expected = x_t * ((1 + w) * (1 + positive) - w * (1 + second))[:, None]
    assert_close(out, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_the_score_without_a_class(schedule, mixture, removed):
    """DNG: log p_t(x|¬c) of the mixture without class c has the score of ε(∅) pushed away from
    ε(c) with λ(x, t) = p(c|x_t)/(1 − p(c|x_t)), a weight that no constant can be."""
    rest = [k for k in range(3) if k != removed]
    covariance = torch.einsum("kij,kj,klj->kil", mixture.U, mixture.lam, mixture.U)
    without = GaussianMixture(mixture.mean[rest], covariance[rest], mixture.log_weight.exp()[rest])
    t = torch.tensor([1, 20, 200, 500, 800, 1000])
    x_t, eps = normal((6, 2)), mixture.eps(schedule)
    p = mixture.log_posterior(schedule, x_t, t).exp()[:, removed]
    lam = p / (1 - p)
    exact = without.eps(schedule)(x_t, t)
    # λ at p close to 1 loses digits as 1/(1 − p)
    tolerance = 1e-12 * float((1 + lam).max())
    for_each_image = negative_guidance(eps, NULL, removed, lam, null=NULL)
    assert_close(for_each_image(x_t, t), exact, rtol=0, atol=max(1e-10, tolerance))
    assert lam.max() / lam.min() > 10


# share left / removed / right, mean of the right mode (true 3.0): simulated apart from this project
TABLE = {
    0.0: (0.332, 0.331, 0.338, 2.99),
    0.25: (0.400, 0.195, 0.406, 3.66),
    0.5: (0.440, 0.116, 0.445, 4.37),
    1.0: (0.482, 0.039, 0.479, 5.82),
    2.0: (0.501, 0.004, 0.495, 8.82),
    "exact": (0.500, 0.001, 0.499, 3.01),
}


def test_constant_lambda_drags_the_kept_modes_away(line):
    """Remove the middle of three Gaussians at −3, 0, 3. A constant λ removes it only by driving
    the others out of the data; λ = p/(1−p) leaves them where they are. All λ in one batch."""
    schedule, n = linear_schedule(), 2000
    eps = line.eps(schedule)
    constant = torch.tensor([lam for lam in TABLE if lam != "exact"], dtype=torch.float64)

    def predictor(x_t, t):
        p = line.log_posterior(schedule, x_t[-n:], t[-n:]).exp()[:, 1]
        lam = torch.cat([constant.repeat_interleave(n), p / (1 - p)])
        return negative_guidance(eps, 3, 1, lam, null=3)(x_t, t)

    x_T = normal((n * len(TABLE), 1))
    x = last(ancestral(schedule, predictor, x_T, clip=None, generator=seeded())).x
    for (lam, (*expected, mean)), x_0 in zip(TABLE.items(), x.view(-1, n), strict=True):
        shares = [(x_0 < -1.5), (x_0.abs() <= 1.5), (x_0 > 1.5)]
        for share, p in zip(shares, expected, strict=True):
            sampling = 5 * (max(p * (1 - p), 0.001) / n) ** 0.5
            assert abs(share.double().mean() - p) < sampling + 0.005, lam
        right = x_0[x_0 > 1.5]
        assert abs(right.mean() - mean) < 5 * right.std() / len(right) ** 0.5 + 0.02, lam


@pytest.mark.parametrize("count", [1, 3, 5])
def test_windows_count_steps_down_to_the_last(count):
    """Steps start, …, stop − 1 and no other, also where the last of them leaves t = 1."""
    for start in range(count + 1):
        for stop in range(start, count + 1):
            high, low = window(5, count, start, stop)
            active = [low < t <= high for t in timesteps(5, count)]
            assert active == [start <= step < stop for step in range(count)]
        assert window(5, count, start) == window(5, count, start, count)
