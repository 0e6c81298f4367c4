"""The presets, and the command-line flags that change them: one frozen dataclass holds both."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from guidance.app.flags import Parser, add_flags, flag, read, wrong

_count = partial(flag, least=1, most=10**9)  # more can only be a mistake


# Data sets of the same kind, which have the settings of a preset.
LIKE = {"fashion-mnist": "mnist", "kmnist": "mnist", "cifar100": "cifar10"}


@dataclass(frozen=True)
class Config:
    """Everything that decides how a run goes. The defaults are those of the digits preset."""

    preset: str = flag("digits", "data set, and the settings that fit it",
                       choices=("digits", "mnist", "cifar10", "scenes", *LIKE))  # fmt: skip
    out: str = flag("", "directory of the run (default: runs/PRESET, or runs/NAME of --data)")
    data_dir: str = flag("data", "where torchvision's data sets are, or are downloaded to")
    data: str = flag("", "your own pictures instead: a folder for each class", metavar="DIR")
    size: int = flag(32, "side that --data's pictures get, in pixels; up to 16 with the settings "
                     "of digits, to 31 of mnist, above of cifar10", least=4, most=1024)  # fmt: skip
    grey: bool = flag(False, "--data in grey rather than colour")
    flip: bool = flag(False, "mirror --data's pictures at random")
    held_out: float = flag(0.1, "share of each class of --data that is not trained on, by --seed",
                           above=0, below=1)  # fmt: skip
    device: str = flag("auto", "auto (cuda, else mps, else cpu), or a torch device")
    threads: str = flag("auto", "of the CPU, or auto: the fastest number there and then")
    precision: str = flag("auto", "of autocast: auto is bfloat16 where it pays",
                          choices=("auto", "float32", "bfloat16", "float16"))  # fmt: skip
    compile: str = flag("auto", "torch.compile: auto is on for CUDA", choices=("auto", "on", "off"))
    init: str = flag("", "start from the ε_θ of this weights directory", metavar="DIR")
    seed: int = flag(0, "seed of everything that is random", least=0, most=2**63 - 1)

    T: int = _count(1000, "number of noise levels")
    schedule: str = flag("cosine", "DDPM's noise schedule or IDDPM's", choices=("linear", "cosine"))
    p_uncond: float = flag(0.1, "probability with which a label is dropped to ∅", least=0, most=1)

    width: int = _count(32, "channels of the U-Net at full resolution; a multiple of 8")
    multipliers: tuple[int, ...] = _count((1, 2), "channels of each level, in widths")
    blocks: int = _count(2, "residual blocks a level")
    attention: tuple[int, ...] = _count((4,), "sides in pixels at which self-attention is applied")
    dropout: float = flag(0.1, "dropout inside the residual blocks", least=0, below=1)

    steps: int = _count(1200, "training steps of ε_θ")
    classifier_steps: int = _count(800, "those of the noisy classifier p_φ (0: none)", least=0)
    judge_steps: int = _count(600, "those of the judge, on clean images (0: none)", least=0)
    judge_width: int = _count(32, "channels of the judge; twice as many features", most=4096)
    batch_size: int = _count(64, "images a step", most=65_536)
    accumulate: int = _count(1, "parts that a batch is cut into where memory is short")
    lr: float = flag(2e-3, "AdamW's learning rate at its highest", above=0)
    warmup: int = _count(100, "steps of linear warm-up; a cosine leads back to 0", least=0)
    weight_decay: float = flag(0.01, "AdamW's weight decay", least=0)
    grad_clip: float = flag(1.0, "largest norm of the gradient", above=0)
    ema: float = flag(0.995, "decay of the weights' average, after a warm-up", least=0, below=1)

    log_every: int = _count(50, "steps between two lines of log.jsonl")
    sample_every: int = _count(500, "steps between two saved states, each with a grid of samples")
    sampling_steps: int = _count(50, "DDIM steps of the pictures, at most T")

    @property
    def run(self) -> str:
        """The run's directory."""
        name = os.path.basename(os.path.abspath(self.data)) or "pictures"
        return self.out or f"runs/{name if self.data else self.preset}"


@dataclass(frozen=True)
class Start:
    """What becomes of the run that may already be in --out."""

    resume: bool = flag(False, "go on with the run in --out")
    overwrite: bool = flag(False, "replace the run in --out")


PRESETS = {
    "digits": Config(),
    "mnist": Config(
        "mnist", schedule="linear", multipliers=(1, 2, 3), blocks=1, attention=(7,), dropout=0.0,
        steps=12_000, classifier_steps=6000, judge_steps=8000, ema=0.998, sample_every=1000,
    ),
    "cifar10": Config(
        "cifar10", schedule="linear", width=64, multipliers=(1, 2, 2, 2), attention=(16,),
        steps=100_000, classifier_steps=10_000, judge_steps=20_000, judge_width=96, batch_size=128,
        lr=5e-4, warmup=1000, ema=0.9995, log_every=100, sample_every=5000,
    ),
    "scenes": Config(
        "scenes", schedule="linear", width=16, multipliers=(1, 2, 2), blocks=1, attention=(7,),
        dropout=0.0, steps=10_000, classifier_steps=4000, judge_steps=9000, batch_size=32,
        ema=0.998, sample_every=2500,
    ),
}  # fmt: skip

# Where and how it runs: may change when a run is taken up again, and is no part of the weights.
MAY_CHANGE = {
    "device", "threads", "compile", "data_dir", "out",
    "log_every", "sample_every", "sampling_steps",
}  # fmt: skip
GROWS = {"steps", "classifier_steps", "judge_steps"}  # a run can get more of these later
# How one's own pictures are read: the weights say it beside the configuration.
PICTURES = {"data", "size", "grey", "flip", "held_out"}


def parser() -> Parser:
    """The flags of `python -m train`."""
    p = Parser(
        prog="python -m train",
        description="Train ε_θ and the noisy classifier p_φ, then draw samples by every guidance.",
        epilog="Ctrl-C saves the state; the same command with --resume goes on from it, "
        "and --resume --steps N, --judge-steps N or --classifier-steps N gives a run more of them.",
    )
    add_flags(p, Config, PRESETS)
    add_flags(p, Start)
    return p


def preset(name: str) -> Config:
    """The settings for one of the data sets with a name."""
    return replace(PRESETS[LIKE.get(name, name)], preset=name)


def for_pictures(size: int, multipliers: tuple[int, ...] = ()) -> Config:
    """The settings for pictures of this side: a preset's, with levels and attention that fit.

    multipliers: in the place of the preset's, which get more as long as 16 pixels are left.
    ValueError with the nearest sizes if they can't halve this one often enough.
    """
    base = PRESETS["digits" if size <= 16 else "mnist" if size < 32 else "cifar10"]
    chosen = multipliers or base.multipliers
    while not multipliers and size >> len(chosen) - 1 > 16 and size % 2 ** len(chosen) == 0:
        chosen += (2,)
    halvings = len(chosen) - 1
    below = size >> halvings << halvings
    if below != size:
        nearest = " or ".join(str(n) for n in (below, below + 2**halvings) if n)
        raise ValueError(f"--size must be divisible by {2**halvings}, which {halvings + 1} "
                         f"multipliers ask for: {nearest}, got {size}")  # fmt: skip
    sides = [size >> level for level in range(halvings + 1)]
    side = max((s for s in sides if s <= base.attention[0]), default=sides[-1])
    return replace(base, multipliers=chosen, attention=(side,))


def _base(given: Mapping[str, Any]) -> Config:
    """What the flags change: the settings of --preset, or those that fit --data's pictures."""
    if given.get("data"):
        if "preset" in given:
            raise ValueError("--preset and --data exclude each other: both say what is learned")
        return for_pictures(read(Config, given).size, given.get("multipliers", ()))
    alone = sorted(PICTURES & given.keys())
    if alone:
        name = alone[0].replace("_", "-")
        raise ValueError(f"--{name} says how your own pictures are read, and needs --data DIR")
    return preset(given.get("preset", "digits"))


def from_flags(given: Mapping[str, Any], base: Config | None = None) -> Config:
    """The given values put into `base`, or else into the settings that they name. Checked."""
    config = read(Config, given, base or _base(given))
    if config.threads != "auto" and not re.fullmatch("[1-9][0-9]{0,2}", config.threads):
        wrong(config, "threads", "auto or an integer in 1..999")
    if config.sampling_steps > config.T:
        wrong(config, "sampling_steps", f"at most T = {config.T}")
    return config
