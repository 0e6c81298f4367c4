"""A run's directory: for one process at a time; its configuration, its log, the way to go on."""

import contextlib
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from train import ranks
from train.config import GROWS, LIKE, MAY_CHANGE, PRESETS, Config, Start, from_flags, preset
from unet.files import replacing

# Everything that a run writes: what --overwrite takes away, so that no file of an old run is left
# beside the configuration of a new one.
FILES = ("*.state", "*.state.previous", "*.partial-*", "*.safetensors", "*.png", "*.gif",
         "samples/step-*.png", "log.jsonl", "pictures.json")  # fmt: skip
LOCK = ".lock"  # stays: a lock file that is deleted can be held twice


@contextlib.contextmanager
def prepared(run: Path, config: Config, start: Start) -> Iterator[None]:
    """The run's directory, for this process alone until it leaves or dies.

    ValueError if that would mix two runs, one after the other or both at once.
    """
    if start.resume and start.overwrite:
        raise ValueError("--resume and --overwrite exclude each other")
    if not (run / LOCK).exists():
        _refuse_another(run, start)  # before anything is put into what may be anybody's directory
    with _locked(run):
        _refuse_another(run, start)
        if start.resume:
            for path in run.rglob("*.partial-*"):  # of a process that was killed
                path.unlink(missing_ok=True)
        elif start.overwrite:
            for path in [p for pattern in FILES for p in run.glob(pattern)]:
                path.unlink(missing_ok=True)
        write_config(run, config)
        yield


def _refuse_another(run: Path, start: Start) -> None:
    if start.resume or start.overwrite or not run.exists():
        return
    if not run.is_dir() or any(not path.name.startswith(".") for path in run.iterdir()):
        raise ValueError(f"--out {run} holds another run; --resume goes on, --overwrite replaces")


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[None]:
    """A lock of the operating system's, which goes with the process: kill -9 leaves none behind."""
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"--out {run}: another process trains there; stop it first, or name another directory"
        ) from None
    except NotImplementedError:  # some network file systems
        said = "its file system has no locks; see to it that no other process trains there"
        print(f"{run}: {said}", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()


def write_config(run: Path, config: Config) -> None:
    """Write config.json, if it does not say the same already."""
    path, text = run / "config.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")


def append_log(path: Path, entry: dict[str, Any]) -> None:
    """Add a line of JSON. OSError that names the file, with no half line in it, if that fails."""
    size = path.stat().st_size if path.is_file() else 0
    try:
        with open(path, "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, size)
        raise OSError(f"the log {path} can't be written: {error}") from error


def resumed(config: Config, given: Mapping[str, Any]) -> Config:
    """The configuration of the run in --out, with what may change taken from the given flags."""
    path = Path(config.run) / "config.json"
    if not path.is_file():
        raise ValueError(f"--resume: there is no run in {config.run} (no config.json)")
    names = [f.name for f in dataclasses.fields(Config)]
    try:
        saved = dict(json.loads(path.read_text(encoding="utf-8")))
        if str(saved.get("preset")) not in (*PRESETS, *LIKE) or not saved.keys() <= set(names):
            raise ValueError("it names no preset, or settings that there are not")
        old = from_flags(saved, preset(saved["preset"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"--resume: {path} can't be read: {error}") from error
    may = MAY_CHANGE | ({"data"} if old.data else set())  # the folder may have been moved
    changes = {k: v for k, v in given.items() if k in names and getattr(old, k) != v}
    for name, value in changes.items():
        was = getattr(old, name)
        untrained = name == "judge_width" and not old.judge_steps
        if not (name in may or untrained or (name in GROWS and value > was)):
            how = "become less" if name in GROWS else "change"
            raise ValueError(
                f"--{name.replace('_', '-')} can't {how} on --resume: the run has {was}, "
                f"got {value}"
            )
        if name in GROWS and was:
            print(f"{was} {name} become {value}; the learning rate follows the cosine of {value}")
    return from_flags(changes, old)


def go_on(config: Config, *flags: str) -> str:
    """The command that goes on with the run, started as this one was."""
    out = f" --out {shlex.quote(config.out)}" if config.out else ""
    what = f"--data {shlex.quote(config.data)}" if config.data else f"--preset {config.preset}"
    more = "".join(f" {flag}" for flag in flags)
    return f"{_launcher()} -m train {what}{out} --resume{more}"


def _launcher() -> str:
    """How this command was started, up to -m."""
    if ranks.world() == 1:
        return "python"
    here, machines = int(os.environ["LOCAL_WORLD_SIZE"]), ""
    if ranks.world() > here:  # they meet at rank 0's, by torchrun's own port
        meet = f"--rdzv-backend=c10d --rdzv-endpoint={os.environ['MASTER_ADDR']}:29500"
        machines = f"--nnodes={ranks.world() // here} {meet} "
    return f"torchrun {machines}--nproc-per-node={here}"
