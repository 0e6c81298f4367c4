"""The presets, and the command-line flags that change them: one frozen dataclass holds both."""

import argparse
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from guidance.command import Parser, integers


def _flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Config:
    """Everything that decides how a run goes. The defaults are those of the digits preset."""

    preset: str = _flag("digits", "data set, and the settings that fit it: digits, mnist, cifar10")
    out: str = _flag("", "directory of the run (default: runs/PRESET)")
    data_dir: str = _flag("data", "where torchvision's data sets are, or are downloaded to")
    device: str = _flag("auto", "auto (cuda, else mps, else cpu), or a torch device")
    precision: str = _flag("auto", "auto, float32, or bfloat16 (autocast; the loss stays float32)")
    compile: str = _flag("auto", "torch.compile: auto (on CUDA), on or off")
    seed: int = _flag(0, "seed of everything that is random")

    T: int = _flag(1000, "number of noise levels")
    schedule: str = _flag("cosine", "noise schedule: linear (DDPM) or cosine (IDDPM)")
    p_uncond: float = _flag(0.1, "probability with which a label is dropped to ∅")

    width: int = _flag(32, "channels of the U-Net at full resolution; a multiple of 8")
    multipliers: tuple[int, ...] = _flag((1, 2), "channels of each level, in widths")
    blocks: int = _flag(2, "residual blocks a level")
    attention: tuple[int, ...] = _flag((4,), "sides in pixels at which self-attention is applied")
    dropout: float = _flag(0.1, "dropout inside the residual blocks")

    steps: int = _flag(1200, "training steps of ε_θ")
    classifier_steps: int = _flag(800, "training steps of the noisy classifier p_φ (0: none)")
    judge_steps: int = _flag(600, "training steps of the judge, on clean images (0: none)")
    judge_width: int = _flag(32, "channels of the judge; its features are twice as many")
    batch_size: int = _flag(64, "images a step")
    lr: float = _flag(2e-3, "AdamW's learning rate at its highest")
    warmup: int = _flag(100, "steps of linear warm-up; a cosine leads back to 0")
    weight_decay: float = _flag(0.01, "AdamW's weight decay")
    grad_clip: float = _flag(1.0, "largest norm of the gradient")
    ema: float = _flag(0.995, "decay of the weights' moving average, reached by a warm-up")

    log_every: int = _flag(50, "steps between two lines of log.jsonl")
    sample_every: int = _flag(500, "steps between two grids of samples; the state is saved then")
    sampling_steps: int = _flag(50, "DDIM steps of the pictures")

    @property
    def run(self) -> str:
        """The run's directory."""
        return self.out or f"runs/{self.preset}"


PRESETS = {
    "digits": Config(),
    "mnist": Config(
        preset="mnist",
        schedule="linear",
        multipliers=(1, 2, 3),
        blocks=1,
        attention=(7,),
        dropout=0.0,
        steps=12_000,
        classifier_steps=6000,
        judge_steps=8000,
        ema=0.998,
        sample_every=1000,
    ),
    "cifar10": Config(
        preset="cifar10",
        schedule="linear",
        width=64,
        multipliers=(1, 2, 2, 2),
        attention=(16,),
        steps=100_000,
        classifier_steps=10_000,
        judge_steps=20_000,
        judge_width=96,
        batch_size=128,
        lr=5e-4,
        warmup=1000,
        ema=0.9995,
        log_every=100,
        sample_every=5000,
    ),
}

MOST = {"batch_size": 65_536, "judge_width": 4096}

# Where and how it runs: may change when a run is taken up again, and is no part of the weights.
MAY_CHANGE = {"device", "compile", "data_dir", "log_every", "sample_every", "sampling_steps", "out"}


def parser() -> Parser:
    """The flags of `python -m train`: one for each field of Config."""
    p = Parser(
        prog="python -m train",
        description="Train ε_θ and the noisy classifier p_φ, then draw samples by every guidance.",
        epilog="Ctrl-C saves the state; the same command with --resume goes on from it.",
    )
    for f in dataclasses.fields(Config):
        values = [getattr(preset, f.name) for preset in PRESETS.values()]
        text = f.metadata["help"]
        if f.name not in ("preset", "out", "device", "precision"):
            shown = [_show(v) for v in values]
            text += f" (default: {shown[0] if len(set(shown)) == 1 else ' | '.join(shown)})"
        p.add_argument(
            "--" + f.name.replace("_", "-"),
            type=_tuple if isinstance(f.default, tuple) else type(f.default),
            choices=list(PRESETS) if f.name == "preset" else None,
            default=argparse.SUPPRESS,
            metavar=None if f.name == "preset" else f.name.upper(),
            help=text.replace("%", "%%"),
        )
    p.add_argument("--resume", action="store_true", help="go on with the run in --out")
    p.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    return p


def from_flags(given: dict[str, Any]) -> Config:
    """The preset that `given` names, with the other given values put in. Checked."""
    preset = given.get("preset", "digits")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"--preset must be one of {', '.join(PRESETS)}, got {preset!r:.80}")
    config = dataclasses.replace(PRESETS[preset], **given)
    validate(config)
    return config


def validate(config: Config) -> None:
    """ValueError that names the flag, the value and what is allowed."""

    def check(ok: bool, name: str, allowed: str) -> None:
        if not ok:
            value = getattr(config, name)
            raise ValueError(f"--{name.replace('_', '-')} must be {allowed}, got {_show(value)}")

    for f in dataclasses.fields(Config):
        value, kind = getattr(config, f.name), type(f.default)
        right = type(value) is kind or (kind is float and type(value) is int)
        if kind is tuple:
            right = right and all(type(v) is int for v in value)
        check(right, f.name, "integers" if kind is tuple else f"of type {kind.__name__}")
        if type(value) is int and f.name != "seed":  # more can only be a mistake
            most = MOST.get(f.name, 10**9)
            check(value <= most, f.name, f"at most {most}")
    counts = ("T", "steps", "judge_width", "batch_size", "log_every", "sample_every")
    for name in (*counts, "sampling_steps"):
        check(getattr(config, name) >= 1, name, "at least 1")
    for name in ("classifier_steps", "judge_steps", "warmup", "seed"):
        check(getattr(config, name) >= 0, name, "at least 0")
    check(config.seed < 2**63, "seed", "below 2^63")
    check(config.sampling_steps <= config.T, "sampling_steps", f"at most T = {config.T}")
    check(config.schedule in ("linear", "cosine"), "schedule", "linear or cosine")
    check(
        config.precision in ("auto", "float32", "bfloat16"),
        "precision",
        "auto, float32 or bfloat16",
    )
    check(config.compile in ("auto", "on", "off"), "compile", "auto, on or off")
    check(0 <= config.p_uncond <= 1, "p_uncond", "a probability in [0, 1]")
    check(0 <= config.dropout < 1, "dropout", "in [0, 1)")
    check(0 <= config.ema < 1, "ema", "in [0, 1)")
    for name in ("lr", "grad_clip"):
        value = getattr(config, name)
        check(math.isfinite(value) and value > 0, name, "a positive number")
    check(
        math.isfinite(config.weight_decay) and config.weight_decay >= 0,
        "weight_decay",
        "a number ≥ 0",
    )


def _tuple(text: str) -> tuple[int, ...]:
    return tuple(integers(text)) if text else ()


def _show(value: Any) -> str:
    return f"{','.join(map(str, value)) if isinstance(value, tuple) else str(value):.80}"
