"""The metrics, by hand or by another road."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from train.evaluate import metrics


def normal(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_by_matrix_square_root():
    a, b = normal((400, 5)), 1.5 * normal((300, 5), seed=1) @ normal((5, 5), seed=2) + 0.3
    mean = (a.mean(0) - b.mean(0)).square().sum()
    A, B = np.cov(a.numpy().T), np.cov(b.numpy().T)
    expected = mean + np.trace(A + B - 2 * sqrtm(A @ B).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_numbers():
    """In one dimension: (μ_1 − μ_2)² + (σ_1 − σ_2)²."""
    a, b = normal((50, 1)), 3 * normal((60, 1), seed=1) + 2
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert metrics.frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)


def test_inception_score():
    assert metrics.inception_score(50 * torch.eye(7)) == pytest.approx(7, rel=1e-5)
    assert metrics.inception_score(torch.zeros(9, 7)) == pytest.approx(1, rel=1e-5)
    p = normal((40, 5)).softmax(1).float()  # entropy of the mean less the mean entropy
    entropy = lambda q: -(q * q.log()).sum(-1)  # noqa: E731
    expected = (entropy(p.mean(0)) - entropy(p).mean()).exp()
    assert metrics.inception_score(p.log()) == pytest.approx(float(expected), rel=1e-5)


def test_the_inception_score_knows_no_order():
    """torchmetrics shuffles by the global generator; six digits must not depend on it."""
    logits, seen = normal((500, 10)).float(), set()
    for seed in range(20):
        torch.manual_seed(seed)
        seen.add(f"{metrics.inception_score(logits):.10g}")
    assert len(seen) == 1


def test_precision_and_recall_by_hand():
    """k = 1 on a line. Real at 0, 1, 3: radii 1, 1, 2. Samples at 0.5, 2.9, 9: radii 2.4, 2.4, 6.1.
    The first two samples lie in the real balls; 0, 1 and 3 all lie in a ball of the samples."""
    real, samples = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [2.9], [9.0]])
    assert metrics.precision_recall(real, samples, k=1) == pytest.approx((2 / 3, 1))
    far = torch.tensor([[100.0], [100.1], [100.2]])
    assert metrics.precision_recall(real, far, k=1) == (0, 0)
    narrow = torch.tensor([[0.9], [1.0], [1.1]])  # all inside, and they reach one real image only
    assert metrics.precision_recall(real, narrow, k=1) == pytest.approx((1, 1 / 3))


def test_precision_and_recall_by_brute_force():
    real, samples, k = normal((30, 3)), 0.7 * normal((25, 3), seed=1) + 0.5, 3

    def inside(points, cloud):
        def covered(p):
            return any(
                (p - q).norm() <= sorted((q - r).norm() for r in cloud if r is not q)[k - 1]
                for q in cloud
            )

        return sum(map(covered, points)) / len(points)

    expected = inside(list(samples), list(real)), inside(list(real), list(samples))
    assert metrics.precision_recall(real, samples, k) == pytest.approx(expected)
    assert 0 < min(expected) < max(expected) <= 1


@pytest.mark.parametrize("block", [1, 7, 30, 1000])
def test_blocks_change_nothing(block, monkeypatch):
    """Bit for bit what the whole table of distances says, and twins, where balls touch points."""
    a, b = normal((40, 6)), 0.8 * normal((30, 6), seed=1) + 0.2
    real, features = torch.cat([a, a[:9]]), torch.cat([b, a[:5]])
    norm = lambda x, y: (x[:, None] - y[None]).square().sum(2).sqrt()  # noqa: E731
    between = norm(real, features)
    radii = [norm(x, x).sort(1).values[:, 3] for x in (real, features)]
    precision = (between <= radii[0][:, None]).any(0).double().mean()
    recall = (between <= radii[1][None]).any(1).double().mean()
    c = torch.arange(len(features)) % 3
    means = [torch.pdist(features[c == k]).mean() for k in range(3)]
    monkeypatch.setattr(metrics, "BLOCK", block)
    assert metrics.precision_recall(real, features) == (float(precision), float(recall))
    spread = metrics.diversity(features, c)
    assert spread == pytest.approx(float(sum(means) / 3), rel=1e-12)


class Largest(TorchDispatchMode):
    """The most numbers that a tensor has had that any operation has made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor):
                self.numbers = max(self.numbers, made.numel())
        return out


@pytest.mark.parametrize("n", [1000, 2000])
def test_no_table_of_all_distances_is_made(n, monkeypatch):
    """(BLOCK, n) is the largest: twice the images, twice the memory and not four times."""
    monkeypatch.setattr(metrics, "BLOCK", 50)
    features, c = normal((n, 4)), torch.zeros(n, dtype=torch.int64)
    with Largest() as largest:
        metrics.precision_recall(features, features + 0.1)
        metrics.diversity(features, c)
    assert largest.numbers == 50 * n


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.precision_recall(normal((9, 2)), normal((3, 2))), "features .* n ≥ 4"),
        (lambda: metrics.precision_recall(normal((9, 2)), normal((9, 2)), k=0), "k must be"),
        (lambda: metrics.frechet_distance(normal((9, 2)), normal((9, 3))), r"features .* \(n, 2\)"),
        (lambda: metrics.frechet_distance(normal((1, 2)), normal((9, 2))), "real .* n ≥ 2"),
        (lambda: metrics.inception_score(normal((3, 2)) / 0), "logits must be .* finite"),
        (lambda: metrics.diversity(normal((3, 2)), torch.tensor([0, 1])), "c must hold 3"),
        (lambda: metrics.kl_to_uniform(torch.tensor([0, 4]), 1, 4), "classes must lie in 0..3"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_diversity_is_a_mean_over_classes():
    features = torch.tensor([[0.0], [2.0], [4.0], [5.0], [5.0], [7.0]])
    c = torch.tensor([0, 0, 0, 1, 1, 2])  # class 2 has one image and no pair
    assert metrics.diversity(features, c) == pytest.approx(((2 + 4 + 2) / 3 + 0) / 2)
    assert math.isnan(metrics.diversity(features[:1], c[:1]))


def test_kl_of_answers_counts_whole_answers():
    """By hand: three answers of two yes or no, ½ added to each count."""
    yes, no = True, False
    target = torch.tensor([[yes, no], [no, yes]] * 3)
    observed = torch.tensor([[yes, no], [no, yes], [yes, yes], [no, yes]])
    p = [3.5 / 7.5, 3.5 / 7.5, 0.5 / 7.5]  # yes no, no yes, yes yes
    q = [1.5 / 5.5, 2.5 / 5.5, 1.5 / 5.5]
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert metrics.kl_of_answers(target, observed) == pytest.approx(kl, rel=1e-12)


def test_kl_to_uniform():
    """Many images spread evenly over the kept classes: 0. The share of the removed class costs
    log(1 / (1 − share)), since the kept ones then have too little."""
    n = 100_000
    kept = torch.tensor([0, 2, 3]).repeat(n)
    assert metrics.kl_to_uniform(kept, 1, 4) == pytest.approx(0, abs=1e-5)
    leaky = torch.cat([kept, torch.ones(n, dtype=torch.int64)])  # a quarter
    assert metrics.kl_to_uniform(leaky, 1, 4) == pytest.approx(math.log(4 / 3), abs=1e-5)
    missing = metrics.kl_to_uniform(torch.tensor([0, 2]).repeat(n), 1, 4)
    assert 1 < missing < 10  # finite
