"""What a run ends with: pictures, and a number of the judge's."""

from functools import partial
from pathlib import Path

import torch

from ddpm import ddim
from guidance.app.draw import draw
from guidance.app.guides import classifier_free
from guidance.app.models import load_models
from train import ranks, report
from train.config import Config
from train.data import Dataset
from train.directory import append_log
from train.judge import accuracy
from unet import Judge, load
from unet.device import autocast_dtype


def show(run: Path, config: Config, data: Dataset) -> None:
    """The pictures, drawn from the weights files as anybody else would, and the judge's number."""
    S, device = config.sampling_steps, data.images.device
    ranks.barrier()  # rank 0 has written the files
    dtype = autocast_dtype(config.precision, device)
    models = load_models(run, classifier=config.classifier_steps > 0, device=device, dtype=dtype)
    c = torch.arange(models.K).repeat_interleave(50)
    if config.judge_steps:
        sampler = partial(ddim, steps=S)
        part = slice(ranks.rank(), None, ranks.world())
        x = draw(models, classifier_free(1.0), c, 1, sampler=sampler, dtype=dtype, only=part)
        x = ranks.in_order(x)
    if not ranks.leave():
        return
    made = ["unet.safetensors", "unet-raw.safetensors", "loss.png", "samples.png", "reverse.gif"]
    report.loss_curves(run / "loss.png", run / "log.jsonl")
    report.samples(run / "samples.png", models, (0, 1, 3), 6, S)
    report.reverse_process(run / "reverse.gif", models, 1.0, 6, S)
    if models.classifier is not None:
        over_t = report.classifier_accuracy(models.classifier, models.schedule, data)
        append_log(run / "log.jsonl", {"phase": "classifier", "accuracy over t": over_t})
        report.accuracy_over_t(run / "accuracy.png", over_t, report.chance(data))
        report.every_guidance(run / "guidance.png", models, S)
        made += ["classifier.safetensors", "accuracy.png", "guidance.png"]
    made += ["judge.safetensors"] if config.judge_steps else []
    print(*(run / name for name in made), sep="\n")
    if config.judge_steps:
        judge, _ = load(run / "judge.safetensors")
        assert isinstance(judge, Judge)
        judge = judge.to(device)
        right = accuracy(judge, x, c, exclusive=data.exclusive)
        real = accuracy(
            judge, data.scale(data.test_images), data.test_labels, exclusive=data.exclusive
        )
        entry = {"phase": "judge", "w": 1.0, "class accuracy": right, "on real images": real}
        append_log(run / "log.jsonl", entry)
        print(
            f"class accuracy at w = 1: {right:.3f} "
            f"({len(x)} samples; the judge on real test images: {real:.3f})"
        )
