"""`python -m train`: ε_θ, p_φ and the judge, then pictures and a number, all into one directory."""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpm import Schedule
from guidance.app.flags import read
from guidance.app.models import Models
from train import objectives, outcome, ranks, report, threads, torchrun
from train.config import MAY_CHANGE, PICTURES, Config, Start, from_flags, parser
from train.data import Dataset, load_data
from train.directory import go_on, prepared, resumed, write_config
from train.folder import load_folder, remember
from train.init import start_from
from train.loop import Diverged, Interrupted, fit
from train.objectives import unet_loss
from train.state import saved_states
from unet import NoisyClassifier, UNet, load, save


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    return torchrun.command(parser(), arguments, command)


def command(flags: argparse.Namespace) -> int:
    """The exit code: 130 if it was interrupted, 1 if the training diverged."""
    given, start = vars(flags), read(Start, vars(flags))
    config = from_flags(given)
    if start.resume:
        config = resumed(config, given)
    if ranks.world() > 1 and "threads" not in given:
        config = dataclasses.replace(config, threads="auto")  # what was best for one process
    try:
        _train(config, start)
    except Interrupted:
        said = f"\ninterrupted; the state is in {config.run}. Go on with: {go_on(config)}"
        print(said, file=sys.stderr)
        return 130
    except Diverged as error:
        print(f"\npython -m train: error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(config: Config, start: Start) -> None:
    device = ranks.join(config.device)
    ranks.part_of(config.batch_size, config.accumulate)  # or ValueError, before anything is written
    schedule = _schedule(config)
    data = ranks.first(lambda: _data(config)).to(device)
    networks = objectives.new_networks(config, data)
    run = Path(config.run)
    if config.init and not (start.resume and saved_states(run / "unet.state")):
        if run.resolve() == Path(config.init).resolve():
            raise ValueError(f"--init {config.init} must be another directory than --out")
        print(start_from(Path(config.init), networks[0], data.classes))
    with prepared(run, config, start) if ranks.rank() == 0 else contextlib.nullcontext():
        ranks.barrier()
        if not (run / "config.json").is_file():
            raise ValueError(f"--out {run} must be a directory that all machines share")
        if data.pictures:
            data = remember(run / "pictures.json", data, write=ranks.rank() == 0)
        config = objectives.possible(config, data)
        size = f"U-Net with {sum(p.numel() for p in networks[0].parameters()):,} parameters"
        print(f"{data.name}: {len(data.images)} images on {device}; {size}")
        config = threads.settle(config, networks[0], unet_loss(schedule, config), data)
        try:
            if ranks.rank() == 0:
                write_config(run, config)
            _fit_all(run, config, networks, data, schedule)
            outcome.show(run, config, data)
        except OSError as error:  # the disk is full, or the directory has gone
            raise OSError(f"{error}. Once it can be, go on with: {go_on(config)}") from error


def _fit_all(
    run: Path,
    config: Config,
    networks: tuple[UNet, NoisyClassifier | None],
    data: Dataset,
    schedule: Schedule,
) -> None:
    """Each network in its turn; its weights are on disk whenever its state is."""
    untold = MAY_CHANGE | PICTURES | {"init"}
    own = {k: v for k, v in dataclasses.asdict(config).items() if k not in untold}
    info = {"data": data.name, "levels": data.levels, "classes": data.classes}
    info |= {"schedule": schedule.info, "config": own}
    info |= {"pictures": data.pictures} if data.pictures else {}
    info |= {} if data.exclusive else {"concepts": True}

    def picture(model: Any, step: int) -> None:
        path = run / "samples" / f"step-{step:06d}.png"
        models = Models(model, None, schedule, data.classes, info)
        report.progress(path, models, config.sampling_steps)

    for name, network, loss, steps in objectives.phases(*networks, config, data, schedule):
        if _is_done(run, name, steps):
            continue

        def keep(training: Any, name: str = name, steps: int = steps) -> None:
            there = {**info, "step": training.step, "steps": steps}
            save(run / f"{name}.safetensors", training.averaged, there)
            if name == "unet":
                save(run / "unet-raw.safetensors", training.model, there)

        look = picture if name == "unet" else None
        fit(name, network, loss, data, config, steps, look, run=run, keep=keep)


def _is_done(run: Path, name: str, steps: int) -> bool:
    """Whether only the weights are left of a network that is at its end.

    ValueError if it is not at its end, and can't be brought there without its state.
    """
    path = run / f"{name}.safetensors"
    if saved_states(run / f"{name}.state") or not path.is_file():
        return False
    step = load(path)[1].get("step", steps)
    if step != steps:
        raise ValueError(
            f"{path} is at step {step} of {steps}, and without {name}.state can't go on; --init "
            f"{run} with another --out starts from its ε_θ"
        )
    return True


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


if __name__ == "__main__":
    sys.exit(main())
