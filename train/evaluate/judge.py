"""Asking the judge, and training a fresh one on generated images."""

import contextlib
import dataclasses
import io
import tempfile

import torch
from torch import Tensor

from train.config import Config
from train.data import Dataset
from train.loop import Diverged, Interrupted, fit
from train.objectives import judge_loss
from unet import Judge


@torch.no_grad()
def ask(judge: Judge, x: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """The judge's features (n, F) and logits (n, K), float32, on the CPU. x: (n, C, H, W)."""
    device = judge.head.weight.device
    features = torch.cat([judge.features(part.to(device)) for part in x.split(batch_size)])
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
    levels = data.levels - 1
    images = ((x.clamp(-1, 1) + 1) * (levels / 2)).round().to(torch.uint8)
    device = data.images.device
    samples = dataclasses.replace(data, images=images.to(device), labels=c.to(device))
    judge = trained_on(samples, config, steps)
    return accuracy(judge, data.scale(data.test_images), data.test_labels)


def trained_on(data: Dataset, config: Config, steps: int) -> Judge:
    """A fresh judge that has seen `steps` batches of data. ValueError if its loss diverged."""
    _, channels, size, _ = data.images.shape
    torch.manual_seed(config.seed)
    judge = Judge(size, channels, len(data.classes), config.judge_width)
    # AT THE MERGE WITH TRAIN: no directory, `fit(..., run=None)`, and `.averaged` of what it gives
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stderr(io.StringIO()):
        config = dataclasses.replace(config, out=out, sample_every=steps)
        try:
            return fit("judge", judge, judge_loss, data, config, steps)[0]
        except Interrupted:  # there is nothing here to go on with
            raise KeyboardInterrupt from None
        except Diverged as error:
            raise ValueError(f"no classification accuracy score: {error}") from error
