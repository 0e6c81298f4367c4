"""`python -m train`: ε_θ, p_φ and the judge, then pictures and a number, all into one directory."""

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ddpm import Schedule, ddim
from guidance.app.draw import draw
from guidance.app.flags import read
from guidance.app.guides import classifier_free
from guidance.app.models import Models, load_models
from train import objectives, ranks, report
from train.config import MAY_CHANGE, PICTURES, Config, Start, from_flags, parser, resumed
from train.data import Dataset, load_data
from train.evaluate.judge import accuracy
from train.folder import load_folder, remember
from train.loop import Diverged, Interrupted, fit
from train.state import append_log, prepare
from unet import Judge, load, save
from unet.device import autocast_dtype


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    return ranks.command(parser(), arguments, command)


def command(flags: argparse.Namespace) -> int:
    """The exit code: 130 if it was interrupted, 1 if the training diverged."""
    given, start = vars(flags), read(Start, vars(flags))
    config = from_flags(given)
    if start.resume:
        config = resumed(config, given)
    try:
        _train(config, start)
    except Interrupted:
        said = f"\ninterrupted; the state is in {config.run}. Go on with: {_go_on(config)}"
        print(said, file=sys.stderr)
        return 130
    except Diverged as error:
        print(f"\npython -m train: error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(config: Config, start: Start) -> None:
    device = ranks.join(config.device)
    ranks.part_of(config.batch_size)  # or ValueError, before anything is written
    schedule = _schedule(config)
    data = ranks.first(lambda: _data(config)).to(device)
    networks = objectives.new_networks(config, data)
    run = Path(config.run)
    if ranks.rank() == 0:
        prepare(run, config, start)
    ranks.barrier()
    if not (run / "config.json").is_file():
        raise ValueError(f"--out {run} must be a directory that all machines share")
    if data.pictures:
        data = remember(run / "pictures.json", data, write=ranks.rank() == 0)
    config = objectives.possible(config, data)
    untold = MAY_CHANGE | PICTURES
    info = {
        "data": data.name,
        "levels": data.levels,
        "classes": data.classes,
        "schedule": schedule.info,
        "config": {k: v for k, v in dataclasses.asdict(config).items() if k not in untold},
        **({"pictures": data.pictures} if data.pictures else {}),
    }
    size = f"U-Net with {sum(p.numel() for p in networks[0].parameters()):,} parameters"
    print(f"{data.name}: {len(data.images)} images on {device}; {size}")

    def picture(model: Any, step: int) -> None:
        path = run / "samples" / f"step-{step:06d}.png"
        report.progress(path, Models(model, None, schedule, data.classes, info), S)

    S = config.sampling_steps
    try:
        for name, network, loss, steps in objectives.phases(*networks, config, data, schedule):
            look = picture if name == "unet" else None
            training = fit(name, network, loss, data, config, steps, look, run=run)
            if ranks.rank() == 0:
                save(run / f"{name}.safetensors", training.averaged, info)
                if name == "unet":
                    save(run / "unet-raw.safetensors", training.model, info)
        _report(run, config, data)
    except OSError as error:  # the disk is full, or the directory has gone
        raise OSError(f"{error}. Once it can be, go on with: {_go_on(config)}") from error


def _data(config: Config) -> Dataset:
    return load_folder(config) if config.data else load_data(config.preset, config.data_dir)


def _schedule(config: Config) -> Schedule:
    schedule = Schedule.from_info({"name": config.schedule, "T": config.T})
    if schedule.alpha_bar[-1] > 1e-3:
        raise ValueError(
            f"--T {config.T} with --schedule {config.schedule} leaves √ᾱ_T = "
            f"{float(schedule.alpha_bar[-1].sqrt()):.2f} of the image at t = T, so that sampling "
            "can't start from N(0, I); use --schedule cosine or a larger --T"
        )
    return schedule


def _report(run: Path, config: Config, data: Dataset) -> None:
    """The pictures, drawn from the weights files as anybody else would, and the judge's number."""
    S, device = config.sampling_steps, data.images.device
    ranks.barrier()  # rank 0 has written the files
    models = load_models(run, classifier=config.classifier_steps > 0, device=device)
    c = torch.arange(models.K).repeat_interleave(50)
    if config.judge_steps:
        dtype, sampler = autocast_dtype(config.precision, device), partial(ddim, steps=S)
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
        report.accuracy_over_t(run / "accuracy.png", over_t, models.K)
        report.every_guidance(run / "guidance.png", models, S)
        made += ["classifier.safetensors", "accuracy.png", "guidance.png"]
    made += ["judge.safetensors"] if config.judge_steps else []
    print(*(run / name for name in made), sep="\n")
    if config.judge_steps:
        judge, _ = load(run / "judge.safetensors")
        assert isinstance(judge, Judge)
        judge = judge.to(device)
        right = accuracy(judge, x, c)
        real = accuracy(judge, data.scale(data.test_images), data.test_labels)
        entry = {"phase": "judge", "w": 1.0, "class accuracy": right, "on real images": real}
        append_log(run / "log.jsonl", entry)
        print(
            f"class accuracy at w = 1: {right:.3f} "
            f"({len(x)} samples; the judge on real test images: {real:.3f})"
        )


def _go_on(config: Config) -> str:
    out = f" --out {shlex.quote(config.out)}" if config.out else ""
    what = f"--data {shlex.quote(config.data)}" if config.data else f"--preset {config.preset}"
    return f"{_launcher()} -m train {what}{out} --resume"


def _launcher() -> str:
    """How this command was started, up to -m."""
    if ranks.world() == 1:
        return "python"
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    machines = f"--nnodes={ranks.world() // here} " if ranks.world() > here else ""
    return f"torchrun {machines}--nproc-per-node={here}"


if __name__ == "__main__":
    sys.exit(main())
