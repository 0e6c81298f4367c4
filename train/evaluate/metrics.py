"""How good are samples? Numbers from the judge's features and logits, never from pixels.

Features are (n, F), logits (n, K). A distance in the judge's features is not an FID: that name is
for Inception's features, and the numbers don't compare.
"""

import functools
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ddpm.checked import Call, checked
from ddpm.checks import Count, look_at_images
from ddpm.values import integer

NAMES = {
    "class_accuracy": "class accuracy",
    "inception_score": "Inception score (judge)",
    "frechet": "Fréchet distance (judge)",
    "precision": "precision",
    "recall": "recall",
    "diversity": "within-class diversity",
    "cas": "classification accuracy score",
    "fid": "FID (Inception)",
}
BLOCK = 1024  # rows of a table of distances at once


def look_at_features(name: str, value: Any, call: Call, least: int = 1) -> None:
    """Finite floats (n, F), n ≥ least or more than k, of one width with the call's real ones."""
    look_at_images(name, value, {name: value})
    least = (integer(call["k"]) or 0) + 1 if "k" in call else least
    if value.ndim != 2 or len(value) < least or not bool(value.isfinite().all()):
        raise ValueError(f"{name} must be (n, F), finite, n ≥ {least}, got {tuple(value.shape)}")
    width = call.get("real", value).shape[1]
    if value.shape[1] != width:
        raise ValueError(f"{name} must be (n, {width}) as real is, got {tuple(value.shape)}")


def look_at_classes(name: str, value: Any, call: Call) -> None:
    """Classes (n,), one for each row of the call's features if there are any."""
    if not isinstance(value, Tensor) or value.ndim != 1 or value.dtype != torch.int64:
        raise TypeError(f"{name} must be a tensor (n,) of int64")
    if len(value) != len(call.get("features", value)):
        raise ValueError(f"{name} must hold {len(call['features'])} classes, got {len(value)}")


Features = Annotated[Tensor, look_at_features]
Cloud = Annotated[Tensor, functools.partial(look_at_features, least=2)]
Classes = Annotated[Tensor, look_at_classes]


class _Features(nn.Module):
    """What torchmetrics calls the network, for features that are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


@checked
def frechet_distance(real: Cloud, features: Cloud) -> float:
    """‖μ_1 − μ_2‖² + tr(Σ_1 + Σ_2 − 2·(Σ_1·Σ_2)^½) of two sets of features, (n, F), (m, F).

    Heusel et al. 2017. It is biased upwards for small n: read it beside the same n of real images.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds, at the first number

    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(features, real=False)
    return float(metric.compute())


@checked
def inception_score(logits: Features) -> float:
    """exp E KL(p(y|x) ‖ p(y)), in 1..K, of the judge's posterior. Salimans et al. 2016."""
    from torchmetrics.image.inception import InceptionScore

    with warnings.catch_warnings():
        # It warns that the logits stay in memory, and that one split has no spread.
        warnings.simplefilter("ignore")
        metric = InceptionScore(feature=_Features(logits.shape[1]), splits=1)
        metric.update(logits.double())  # it shuffles them: in float32 the order would show
        return float(metric.compute()[0])


@checked
def precision_recall(real: Features, features: Features, k: Count = 3) -> tuple[float, float]:
    """Share of samples inside the real images' manifold, and of real images inside the samples'.

    Kynkäänniemi et al. 2019 (Eq. 1, 2): a manifold is the union of balls around its points, each
    out to the k-th nearest neighbour. real: (n, F), features: (m, F), both of more than k.
    """
    real, features = real.double(), features.double()
    return _covered(features, real, k), _covered(real, features, k)


def _covered(points: Tensor, centres: Tensor, k: int) -> float:
    """Share of the points in a ball around a centre, out to the centre's k-th nearest other."""
    # the nearest is the centre itself
    radii = torch.cat([d.kthvalue(k + 1).values for d in _distances(centres, centres)])
    inside = torch.cat([(d <= radii).any(1) for d in _distances(points, centres)])
    return float(inside.double().mean())


def _distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Of (n, F) to (m, F), a block of (BLOCK, m) after the other: all (n, m) may not fit."""
    for part in a.split(BLOCK):
        # each distance by itself: as one matrix product they would depend on the block
        yield torch.cdist(part, b, compute_mode="donot_use_mm_for_euclid_dist")


@checked
def diversity(features: Features, c: Classes) -> float:
    """Mean distance between two images of one class, averaged over classes. (n, F), (n,).

    0 is one picture a class; what real images have is the measure. NaN if no class has two.
    """
    classes = [features[c == k].double() for k in torch.unique(c)]
    means = [
        sum(float(d.sum()) for d in _distances(x, x)) / (len(x) * (len(x) - 1))
        for x in classes
        if len(x) > 1
    ]
    return sum(means) / len(means) if means else float("nan")


def kl_of_answers(target: Tensor, observed: Tensor) -> float:
    """KL(shares of the target's answers ‖ shares observed), in nats; an answer is K yes or no.

    target: (n, K) bool; observed: (m, K) bool. Shares are over every answer that either gives, and
    (count + 1/2)/(total + answers/2), so that one that never came costs much and not infinitely.
    """
    both, places = torch.unique(torch.cat([target, observed]), dim=0, return_inverse=True)
    counts = [torch.bincount(part, minlength=len(both)).double() + 0.5
              for part in (places[: len(target)], places[len(target) :])]  # fmt: skip
    p, q = (count / count.sum() for count in counts)
    return float((p * (p / q).log()).sum())


@checked
def kl_to_uniform(classes: Classes, removed: int, K: int) -> float:
    """KL(1/(K−1) on each kept class ‖ the shares observed), in nats. DNG's class balance.

    classes: (n,) as the judge sees them. Each share is (count + 1/2)/(n + K/2), so that a kept
    class that never came costs much and not infinitely.
    """
    if integer(K) is None or integer(removed) is None or not 0 <= removed < K <= 1_000_000 or K < 2:
        raise ValueError(
            f"K must be an integer ≥ 2 and removed one in 0..K−1, got {K!r:.80} and {removed!r:.80}"
        )
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < K:
        raise ValueError(f"classes must lie in 0..{K - 1}")
    counts = torch.bincount(classes, minlength=K).double() + 0.5
    kept = torch.arange(K) != removed
    target = 1 / (K - 1)
    return float((target * (target / (counts / counts.sum())[kept]).log()).sum())
