"""Exercises of notebooks 3 and 4: the score, a classifier's pull, Eq. 6, dropped labels."""

import torch
from torch import Tensor

from exercises.adapters import drops_of, free_by, guided_by, line_of
from exercises.checker import Exercise
from exercises.diffusion import normal
from exercises.law import Law


def score(x: Tensor, mean: Tensor, variance: float, weight: Tensor) -> Tensor:
    """∇log Σ_m π_m·N(x; m, v·I) = Σ_m p(m|x)·(m − x)/v."""
    log_p = weight.log() - (x[:, None] - mean).square().sum(2) / (2 * variance)
    return ((mean - x[:, None]) / variance * log_p.softmax(1)[:, :, None]).sum(1)


def shape_of_drops(labels: Tensor) -> list[float]:
    """Of 1,000 ones: what stands in the place of dropped ones, and their share, in tenths."""
    values = labels.tolist()
    dropped = [v for v in values if v != 1]
    return [len(values), max(values), min(values), round(10 * len(dropped) / len(values))]


GUIDANCE = {
    "ADM Eq. 11": Exercise(
        score,
        lambda: (normal(4, 2), normal(3, 2, seed=1), 0.7, torch.tensor([0.2, 0.5, 0.3])),
        {
            "the sign is wrong: the score points uphill, towards the means.": lambda *a: -score(*a),
            "the posterior is missing: each Gaussian counts as much as it is likely at x.": (
                lambda x, m, v, w: ((m - x[:, None]) / v * w[:, None]).sum(1)
            ),
            "this is a mean over the Gaussians, each as likely as the next: weigh it by p(m|x).": (
                lambda x, m, v, w: ((m - x[:, None]) / v).mean(1)
            ),
            "this is a mean over the Gaussians: p(m|x) already adds to 1, so take the sum.": (
                lambda x, m, v, w: score(x, m, v, w) / len(m)
            ),
            "the slope of (x − m)²/(2·v) has the variance under it: divide by v.": (
                lambda x, m, v, w: v * score(x, m, v, w)
            ),
            "this divides by the standard deviation; the slope has the variance under it.": (
                lambda x, m, v, w: v**0.5 * score(x, m, v, w)
            ),
        },
        (Law("test_07_mixture", "test_noise_is_the_conditional_mean_on_a_grid", "", line_of),),
    ),
    "ADM Eq. 14": Exercise(
        lambda eps, g, s, alpha_bar: eps - s * (1 - alpha_bar).sqrt() * g,
        lambda: (normal(4, 2), normal(4, 2, seed=1), 2.0, torch.full((4, 1), 0.3).double()),
        {
            "the sign is wrong: ε points away from the data, so the pull is subtracted.": (
                lambda e, g, s, a: e + s * (1 - a).sqrt() * g
            ),
            "the factor √(1 − ᾱ_t) is missing: it turns a score into noise.": (
                lambda e, g, s, a: e - s * g
            ),
            "the root is missing: the factor is √(1 − ᾱ_t).": lambda e, g, s, a: (
                e - s * (1 - a) * g
            ),
            "this has √ᾱ_t for √(1 − ᾱ_t): the score is divided by the noise.": (
                lambda e, g, s, a: e - s * a.sqrt() * g
            ),
            "this divides by √(1 − ᾱ_t): a noise is minus the score times √(1 − ᾱ_t).": (
                lambda e, g, s, a: e - s / (1 - a).sqrt() * g
            ),
            "this has 1 − √ᾱ_t for √(1 − ᾱ_t): the root is of the whole difference.": (
                lambda e, g, s, a: e - s * (1 - a.sqrt()) * g
            ),
            "the scale s is missing.": lambda e, g, s, a: e - (1 - a).sqrt() * g,
        },
        (
            Law(
                "test_08_classifier_guidance",
                "test_guided_noise_is_the_score_of_the_product",
                "classifier_guidance",
            ),
        ),
        guided_by,
    ),
    "CFG Eq. 6": Exercise(
        lambda eps_c, eps_null, w: (1 + w) * eps_c - w * eps_null,
        lambda: (normal(4, 2), normal(4, 2, seed=1), 3.0),
        {
            "this has w for 1 + w. ε(∅) + s·(ε(c) − ε(∅)) is diffusers' formula, with s = 1 + w.": (
                lambda c, n, w: n + w * (c - n)
            ),
            "the two halves are swapped: this guides away from c, towards ∅.": (
                lambda c, n, w: (1 + w) * n - w * c
            ),
            "the sign is wrong: ∅'s part is subtracted, and the factors 1 + w and −w add to 1.": (
                lambda c, n, w: (1 + w) * c + w * n
            ),
            "the w of ∅ is missing: the factors 1 + w and −w must add to 1.": (
                lambda c, n, w: (1 + w) * c - n
            ),
            "this has w for 1 + w in the first term: the factors must add to 1.": (
                lambda c, n, w: w * c - w * n
            ),
            "w and −(1 − w) do not add to 1. It is s·ε(c) + (1 − s)·ε(∅) with s = 1 + w.": (
                lambda c, n, w: w * c - (1 - w) * n
            ),
            "this is the difference alone, whose factors add to 0: ε(∅) + (1 + w)·(ε(c) − ε(∅)).": (
                lambda c, n, w: (1 + w) * (c - n)
            ),
            "the sign of the difference is wrong: go on from ε(c) away from ε(∅).": (
                lambda c, n, w: c + w * (n - c)
            ),
        },
        (
            Law(
                "test_09_classifier_free",
                "test_eq_6_is_the_score_of_the_tilted_density",
                "classifier_free_guidance",
            ),
        ),
        free_by,
    ),
    "CFG Alg. 1": Exercise(
        lambda c, p, null, g: torch.where(torch.rand(c.shape, generator=g) < p, null, c),
        lambda: (torch.ones(1000).long(), 0.6, 10, torch.Generator().manual_seed(0)),
        {
            "this keeps a label with probability p_uncond: it is the probability of dropping it.": (
                lambda c, p, null, g: torch.where(torch.rand(c.shape, generator=g) > p, null, c)
            ),
            "all labels are dropped together, as by one draw for the batch: each has its own.": (
                lambda c, p, null, g: torch.where(torch.rand(1, generator=g) < p, null, c)
            ),
            "no label is dropped at all: drop one where its draw is below p_uncond.": (
                lambda c, p, null, g: c.clone()
            ),
            "this drops a label to class 0. ∅ is a token of its own.": lambda c, p, null, g: (
                torch.where(torch.rand(c.shape, generator=g) < p, 0, c)
            ),
            "this drops a label to −1, which no embedding table has; ∅ is `null`.": (
                lambda c, p, null, g: torch.where(torch.rand(c.shape, generator=g) < p, -1, c)
            ),
        },
        (
            Law(
                "test_09_classifier_free",
                "test_labels_are_dropped_for_each_image_on_its_own",
                "drop_labels",
            ),
        ),
        drops_of,
        shape_of_drops,
    ),
}
