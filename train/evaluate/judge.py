"""Asking the judge, and training a fresh one on generated images."""

import dataclasses

import torch
from torch import Tensor

from train.config import Config
from train.data import Dataset
from train.loop import Diverged, fit
from train.objectives import judge_loss, new_judge
from unet import Judge


@torch.no_grad()
def ask(judge: Judge, x: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """The judge's features (n, F) and logits (n, K), float32, on the CPU. x: (n, C, H, W)."""
    device = judge.head.weight.device
    features = torch.cat([judge.features(part.to(device)) for part in torch.split(x, batch_size)])
    return features.cpu(), judge.logits(features).cpu()


def accuracy(judge: Judge, x: Tensor, c: Tensor) -> float:
    """Share of the images x (n, C, H, W) in [-1, 1] that the judge takes for their class c (n,)."""
    return float((ask(judge, x)[1].argmax(1) == c.cpu()).double().mean())


def classification_accuracy_score(
    data: Dataset, x: Tensor, c: Tensor, config: Config, steps: int
) -> float:
    """Accuracy on the real test images of a fresh judge that has seen only x and c.

    Ravuri & Vinyals 2019. x: (n, C, H, W) in [-1, 1]; c: (n,). `steps` batches, whatever n is.
    """
    device = data.images.device
    samples = dataclasses.replace(data, images=data.quantise(x).to(device), labels=c.to(device))
    try:
        judge = fit("judge", new_judge(data, config), judge_loss, samples, config, steps).averaged
    except Diverged as error:
        raise ValueError(f"no classification accuracy score: {error}") from error
    return accuracy(judge, data.scale(data.test_images), data.test_labels)
