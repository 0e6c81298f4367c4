"""How good are samples? Numbers from the judge's features and logits, never from pixels.

Features are (n, F), logits (n, K). A distance in the judge's features is not an FID: that name is
for Inception's features, and the numbers don't compare.
"""

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore


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
    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(features, real=False)
    return float(metric.compute())


def inception_score(logits: Tensor) -> float:
    """exp E KL(p(y|x) ‖ p(y)), in 1..K, of the judge's posterior. Salimans et al. 2016."""
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
    between = torch.cdist(real.double(), features.double())  # (n, m)
    precision = (between <= _radii(real, k)[:, None]).any(0).double().mean()
    recall = (between <= _radii(features, k)[None]).any(1).double().mean()
    return float(precision), float(recall)


def _radii(features: Tensor, k: int) -> Tensor:
    if len(features) <= k:
        raise ValueError(f"precision and recall need more than {k} images, got {len(features)}")
    distances = torch.cdist(features.double(), features.double())
    return distances.kthvalue(k + 1, dim=1).values  # the nearest is the point itself


def diversity(features: Tensor, c: Tensor) -> float:
    """Mean distance between two images of one class, averaged over classes. (n, F), (n,).

    0 is one picture a class; what real images have is the measure. NaN if no class has two.
    """
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
    counts = torch.bincount(classes, minlength=K).double() + 0.5
    kept = torch.arange(K) != removed
    target = 1 / (K - 1)
    return float((target * (target / (counts / counts.sum())[kept]).log()).sum())
