"""How good are samples? Numbers from the judge's features and logits, never from pixels.

Features are (n, F), logits (n, K). A distance in the judge's features is not an FID: that name is
for Inception's features, and the numbers don't compare.
"""

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from ddpm.forward import check_batches
from ddpm.schedule import integer


def _check(least: int, **batches: Tensor) -> None:
    """TypeError or ValueError that names what is not (n, F) finite floats, n ≥ least."""
    for name, x in batches.items():
        check_batches(**{name: x})
        if x.ndim != 2 or len(x) < least or x.is_meta or not bool(x.isfinite().all()):
            raise ValueError(f"{name} must be (n, F), finite, n ≥ {least}, got {tuple(x.shape)}")


def _same_width(real: Tensor, features: Tensor) -> None:
    if real.shape[1] != features.shape[1]:
        raise ValueError(f"features must be (m, {real.shape[1]}), got {tuple(features.shape)}")


def _classes(name: str, c: Tensor) -> None:
    if not isinstance(c, Tensor) or c.ndim != 1 or c.dtype != torch.int64 or c.is_meta:
        raise TypeError(f"{name} must be a tensor (n,) of int64")


class _Features(nn.Module):
    """What torchmetrics calls the network, for features that are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, features: Tensor) -> float:
    """‖μ_1 − μ_2‖² + tr(Σ_1 + Σ_2 − 2·(Σ_1·Σ_2)^½) of two sets of features, (n, F), (m, F).

    Heusel et al. 2017. It is biased upwards for small n: read it beside the same n of real images.
    """
    _check(2, real=real, features=features)
    _same_width(real, features)
    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(features, real=False)
    return float(metric.compute())


def inception_score(logits: Tensor) -> float:
    """exp E KL(p(y|x) ‖ p(y)), in 1..K, of the judge's posterior. Salimans et al. 2016."""
    _check(1, logits=logits)
    with warnings.catch_warnings():
        # It warns that the logits stay in memory, and that one split has no spread.
        warnings.simplefilter("ignore")
        metric = InceptionScore(feature=_Features(logits.shape[1]), splits=1)
        metric.update(logits)
        return float(metric.compute()[0])


def precision_recall(real: Tensor, features: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of samples inside the real images' manifold, and of real images inside the samples'.

    Kynkäänniemi et al. 2019 (Eq. 1, 2): a manifold is the union of balls around its points, each
    out to the k-th nearest neighbour. real: (n, F), features: (m, F), both of more than k.
    """
    if (integer(k) or 0) < 1:
        raise ValueError(f"k must be an integer ≥ 1, got {k!r:.80}")
    _check(k + 1, real=real, features=features)
    _same_width(real, features)
    between = torch.cdist(real.double(), features.double())  # (n, m)
    precision = (between <= _radii(real, k)[:, None]).any(0).double().mean()
    recall = (between <= _radii(features, k)[None]).any(1).double().mean()
    return float(precision), float(recall)


def _radii(features: Tensor, k: int) -> Tensor:
    distances = torch.cdist(features.double(), features.double())
    return distances.kthvalue(k + 1, dim=1).values  # the nearest is the point itself


def diversity(features: Tensor, c: Tensor) -> float:
    """Mean distance between two images of one class, averaged over classes. (n, F), (n,).

    0 is one picture a class; what real images have is the measure. NaN if no class has two.
    """
    _check(1, features=features)
    _classes("c", c)
    if len(c) != len(features):
        raise ValueError(f"c must hold {len(features)} classes, got {len(c)}")
    means = []
    for k in c.unique():
        members = features[c == k].double()
        if len(members) > 1:
            means.append(torch.pdist(members).mean())
    return float(torch.stack(means).mean()) if means else float("nan")


def kl_to_uniform(classes: Tensor, removed: int, K: int) -> float:
    """KL(1/(K−1) on each kept class ‖ the shares observed), in nats. DNG's class balance.

    classes: (n,) as the judge sees them. Each share is (count + 1/2)/(n + K/2), so that a kept
    class that never came costs much and not infinitely.
    """
    _classes("classes", classes)
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
