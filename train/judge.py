"""Asking the judge: what it holds true of an image, and how often that is right."""

import torch
import torch.nn.functional as F
from torch import Tensor

from unet import Judge


@torch.no_grad()
def ask(judge: Judge, x: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """The judge's features (n, F) and logits (n, K), float32, on the CPU. x: (n, C, H, W)."""
    device = judge.head.weight.device
    features = torch.cat([judge.features(part.to(device)) for part in torch.split(x, batch_size)])
    return features.cpu(), judge.logits(features).cpu()


def held_true(logits: Tensor, *, exclusive: bool) -> Tensor:
    """What the judge holds true of each image, (n, K) bool: one class, or any of the concepts."""
    return F.one_hot(logits.argmax(1), logits.shape[1]).bool() if exclusive else logits > 0


def accuracy(judge: Judge, x: Tensor, c: Tensor, *, exclusive: bool = True) -> float:
    """Share of the images x (n, C, H, W) in [-1, 1] of which the judge holds c true.

    c: (n,), a label of each. Or (n, K) bool, all that is true: then it's the share of right answers
    among all n·K.
    """
    true, c = held_true(ask(judge, x)[1], exclusive=exclusive), c.cpu()
    right = true == c if c.ndim == 2 else true.gather(1, c[:, None])
    return float(right.double().mean())
