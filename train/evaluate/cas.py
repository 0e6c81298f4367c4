"""The classification accuracy score: what samples teach a fresh judge. Ravuri & Vinyals 2019."""

import dataclasses
from functools import cache

from torch import Tensor

from train.config import Config, for_pictures, preset
from train.data import Dataset
from train.evaluate.lab import Lab
from train.judge import accuracy
from train.loop import Diverged, fit
from train.objectives import judge_loss, new_judge

STEPS = 300  # batches of 64 that the fresh judge sees at least


def scores(lab: Lab, x: Tensor, c: Tensor, seed: int) -> dict[str, float]:
    """The score of samples x (n, C, H, W) of the classes c (n,), and of as many real images."""
    return {"cas": _score(lab, x, c), "cas_real": score_of_real(lab, len(x), seed)}


@cache
def score_of_real(lab: Lab, n: int, seed: int) -> float:
    """The score of n real training images, which is the same for whatever is measured."""
    chosen = lab.balanced_sample(n, seed)
    return _score(lab, lab.data.scale(lab.data.images[chosen]), lab.data.labels[chosen])


def _score(lab: Lab, x: Tensor, c: Tensor) -> float:
    folder = lab.data.pictures
    config = for_pictures(folder["size"]) if folder else preset(lab.data.name)
    config = dataclasses.replace(config, precision=lab.precision)
    steps = max(STEPS, 15 * len(x) // config.batch_size)  # each image 15 times, if many
    return classification_accuracy_score(lab.data.to(lab.device), x, c, config, steps)


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
