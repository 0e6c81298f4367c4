"""Asking the judge."""

import torch
from torch import Tensor

from unet import Judge


@torch.no_grad()
def ask(judge: Judge, x: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """The judge's features (n, F) and logits (n, K), float32, on the CPU. x: (n, C, H, W)."""
    device = judge.head.weight.device
    features = torch.cat([judge.features(part.to(device)) for part in torch.split(x, batch_size)])
    return features.cpu(), judge.logits(features).cpu()


def accuracy(judge: Judge, x: Tensor, c: Tensor) -> float:
    """Fraction of the images x (n, C, H, W) in [-1, 1] that the judge takes for their c (n,)."""
    return float((ask(judge, x)[1].argmax(1) == c.cpu()).float().mean())
