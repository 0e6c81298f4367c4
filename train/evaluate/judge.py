"""The judge of a weights directory, and a fresh one that is trained on generated images."""

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from guidance.app.models import how_to_get
from train.config import Config
from train.data import Dataset
from train.judge import accuracy
from train.loop import Diverged, fit
from train.objectives import judge_loss, new_judge
from unet import Judge, load


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


def load_judge(directory: Path, unet_info: dict[str, Any]) -> Judge:
    """The judge beside the networks. FileNotFoundError or ValueError if there is none of theirs."""
    path = directory / "judge.safetensors"
    if not path.is_file():
        advice = how_to_get("judge", directory, unet_info)
        raise FileNotFoundError(f"no judge.safetensors in --weights {directory}; {advice}")
    judge, info = load(path)
    data = unet_info.get("data")
    if not isinstance(judge, Judge) or info.get("data") != data:
        raise ValueError(f"{path} is not a judge of {data}")
    return judge
