"""`python -m train`: ε_θ, p_φ and the judge, then pictures and a number, all into one directory."""

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ddpm import Schedule
from guidance.command import replacing
from guidance.models import Models, load_models
from guidance.sampling import Request, Sampler
from train import launch, objectives, ranks, report
from train.config import MAY_CHANGE, PRESETS, Config, from_flags, parser, validate
from train.data import Dataset, load_data
from train.hardware import autocast_dtype
from train.judge import accuracy as judged_accuracy
from train.judge import new_judge
from train.loop import Diverged, Interrupted, fit
from train.state import append_log
from unet import Judge, NoisyClassifier, UNet, load, save

# Everything that a run writes: what --overwrite takes away, so that no file of an old run is left
# beside the configuration of a new one.
FILES = (
    "*.state",
    "*.state.partial",
    "*.state.previous",
    "*.safetensors",
    "*.png",
    "*.gif",
    "samples/step-*.png",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    return launch.run(parser(), arguments, _command)


def _command(args: argparse.Namespace) -> int:
    flags = vars(args)
    resume, overwrite = flags.pop("resume"), flags.pop("overwrite")
    config = from_flags(flags)
    if resume:
        config = _resumed(config, flags)
    return _train(config, resume, overwrite)


def _train(config: Config, resume: bool, overwrite: bool) -> int:
    device = launch.join(config.device)
    ranks.share(config.batch_size)  # or ValueError, before anything is written
    schedule = Schedule.from_info({"name": config.schedule, "T": config.T})
    if schedule.alpha_bar[-1] > 1e-3:
        raise ValueError(
            f"--T {config.T} with --schedule {config.schedule} leaves √ᾱ_T = "
            f"{float(schedule.alpha_bar[-1].sqrt()):.2f} of the image at t = T, so that sampling "
            "can't start from N(0, I); use --schedule cosine or a larger --T"
        )
    data = ranks.first(lambda: load_data(config.preset, config.data_dir)).to(device)
    shape: dict[str, Any] = {
        "size": data.images.shape[-1],
        "channels": data.images.shape[1],
        "classes": len(data.classes),
        "width": config.width,
        "multipliers": config.multipliers,
        "attention": config.attention,
        "dropout": config.dropout,
    }
    torch.manual_seed(config.seed)
    unet = UNet(**shape, blocks=config.blocks)
    classifier = NoisyClassifier(**shape, blocks=1)
    run = Path(config.run)
    if ranks.rank() == 0:
        _prepare(run, config, resume, overwrite)
    ranks.barrier()
    if not (run / "config.json").is_file():
        raise ValueError(f"--out {run} must be a directory that all machines share")
    info = {
        "data": data.name,
        "levels": data.levels,
        "classes": data.classes,
        "schedule": schedule.info,
        "config": {k: v for k, v in dataclasses.asdict(config).items() if k not in MAY_CHANGE},
    }
    size = f"U-Net with {sum(p.numel() for p in unet.parameters()):,} parameters"
    print(f"{data.name}: {len(data.images)} images on {device}; {size}")

    def picture(model: UNet, step: int) -> None:
        path = run / "samples" / f"step-{step:06d}.png"
        models = Models(model, None, schedule, data.classes, info)
        report.progress(path, models, config.sampling_steps)

    def write(name: str, model: UNet | NoisyClassifier | Judge) -> None:
        if ranks.rank() == 0:
            save(run / name, model, info)

    try:
        loss = objectives.unet_loss(schedule, config)
        ema, raw = fit("unet", unet, loss, data, config, config.steps, picture)
        write("unet.safetensors", ema)
        write("unet-raw.safetensors", raw)
        if config.classifier_steps:
            loss = objectives.classifier_loss(schedule)
            p_phi, _ = fit("classifier", classifier, loss, data, config, config.classifier_steps)
            write("classifier.safetensors", p_phi)
        if config.judge_steps:
            loss, network = objectives.judge_loss, new_judge(data, config)
            judge, _ = fit("judge", network, loss, data, config, config.judge_steps)
            write("judge.safetensors", judge)
        _report(run, config, data)
    except Interrupted:
        print(
            f"\ninterrupted; the state is in {run}. Go on with: {_go_on(config)}", file=sys.stderr
        )
        return 130
    except Diverged as error:
        print(f"\npython -m train: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # the disk is full, or the directory has gone
        raise OSError(f"{error}. Once it can be, go on with: {_go_on(config)}") from error
    return 0


def _report(run: Path, config: Config, data: Dataset) -> None:
    """The pictures, drawn from the weights files as anybody else would, and the judge's number."""
    with_classifier, S = config.classifier_steps > 0, config.sampling_steps
    ranks.barrier()  # rank 0 has written the files
    models = load_models(run, classifier=with_classifier, device=data.images.device)
    c = torch.arange(len(data.classes)).repeat_interleave(50)
    if config.judge_steps:
        dtype = autocast_dtype(config.precision, data.images.device)
        request = Request("classifier-free", 0, w=1.0)
        x = ranks.draw(models, request, Sampler(steps=S), c, seed=1, dtype=dtype)
    if not launch.leave():
        return
    made = ["unet.safetensors", "unet-raw.safetensors", "loss.png", "samples.png", "reverse.gif"]
    report.loss_curves(run / "loss.png", run / "log.jsonl")
    report.samples(run / "samples.png", models, (0, 1, 3), 6, S)
    report.reverse_process(run / "reverse.gif", models, 1.0, 6, S)
    if models.classifier is not None:
        accuracy = report.classifier_accuracy(models.classifier, models.schedule, data)
        append_log(run / "log.jsonl", {"phase": "classifier", "accuracy over t": accuracy})
        report.accuracy_over_t(run / "accuracy.png", accuracy, len(data.classes))
        report.every_guidance(run / "guidance.png", models, S)
        made += ["classifier.safetensors", "accuracy.png", "guidance.png"]
    if config.judge_steps:
        made.append("judge.safetensors")
    for name in made:
        print(run / name)
    if config.judge_steps:
        judge, _ = load(run / "judge.safetensors")
        assert isinstance(judge, Judge)
        judge = judge.to(data.images.device)
        share = judged_accuracy(judge, x, c)
        real = judged_accuracy(judge, data.scale(data.test_images), data.test_labels)
        append_log(
            run / "log.jsonl",
            {"phase": "judge", "w": 1.0, "class accuracy": share, "on real images": real},
        )
        print(
            f"class accuracy at w = 1: {share:.3f} "
            f"({len(x)} samples; the judge on real test images: {real:.3f})"
        )


def _prepare(run: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Make the run's directory. ValueError if that would mix two runs."""
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    if resume:
        return
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        if not overwrite:
            raise ValueError(
                f"--out {run} holds another run; --resume goes on, --overwrite replaces"
            )
        for path in [p for pattern in (*FILES, "log.jsonl") for p in run.glob(pattern)]:
            path.unlink()
    run.mkdir(parents=True, exist_ok=True)
    with replacing(run / "config.json") as partial:
        partial.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def _resumed(config: Config, flags: dict[str, Any]) -> Config:
    """The configuration of the run in --out, with what may change taken from the flags."""
    path = Path(config.run) / "config.json"
    if not path.is_file():
        raise ValueError(f"--resume: there is no run in {config.run} (no config.json)")
    try:
        saved = dict(json.loads(path.read_text()))
        if str(saved.get("preset")) not in PRESETS:
            raise ValueError("it names no preset")
        old = from_flags({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"--resume: {path} can't be read: {error}") from error
    for name, value in flags.items():
        if name not in MAY_CHANGE and getattr(old, name) != value:
            raise ValueError(
                f"--{name.replace('_', '-')} can't change on --resume: the run has "
                f"{getattr(old, name)}, got {value}"
            )
    merged = dataclasses.replace(old, **{k: v for k, v in flags.items() if k in MAY_CHANGE})
    validate(merged)
    return merged


def _go_on(config: Config) -> str:
    out = f" --out {shlex.quote(config.out)}" if config.out else ""
    return f"{launch.launcher()} -m train --preset {config.preset}{out} --resume"


if __name__ == "__main__":
    sys.exit(main())
