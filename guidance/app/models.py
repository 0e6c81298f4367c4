"""The trained networks of a weights directory, with the schedule that they were trained with."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ddpm import Schedule
from guidance.arguments import ConditionalPredictor
from guidance.classifier import LogProb, class_log_prob
from unet import NoisyClassifier, UNet, load
from unet.device import memory_format

# Of `python -m train`, which nothing here imports.
PRESETS = ("digits", "mnist", "fashion-mnist", "kmnist", "scenes", "cifar10", "cifar100")


class Models(NamedTuple):
    """What sampling needs; `classifier` is None where nobody asked for it."""

    unet: UNet
    classifier: NoisyClassifier | None
    schedule: Schedule
    classes: list[str]  # K names
    info: dict[str, Any]
    memory: ConditionalPredictor | None = None  # unet as `remembering` makes it

    @property
    def K(self) -> int:  # noqa: N802 (the number of classes, and ∅)
        """The number of classes and the token of ∅."""
        return self.unet.null_token

    @property
    def exclusive(self) -> bool:
        """Whether an image has one label only: classes, and not concepts."""
        return not self.info.get("concepts", False)

    @property
    def device(self) -> torch.device:
        """Where the networks are, and what is drawn with them."""
        return next(self.unet.parameters()).device

    def trained(self, *labels: int | torch.Tensor) -> ConditionalPredictor:
        """ε_θ, for these labels. ValueError where training has shown it none of their kind.

        With p_uncond = 0 no label was ever dropped, and nothing has trained ∅; with 1 every one.
        """
        config = self.info.get("config")
        p_uncond = config.get("p_uncond") if isinstance(config, dict) else None
        for c in labels if p_uncond in (0, 1) else ():
            null = torch.as_tensor(c) == self.K
            if p_uncond == 0 and bool(null.any()):
                raise ValueError("these weights know no ∅, which this guidance needs: they were "
                                 "trained with p_uncond = 0")  # fmt: skip
            if p_uncond == 1 and not bool(null.all()):
                raise ValueError("these weights know no class, only ∅: they were trained with "
                                 "p_uncond = 1")  # fmt: skip
        return self.memory or self.unet

    def log_prob(self, y: int | torch.Tensor) -> LogProb:
        """log p_φ(y|x_t). ValueError where nobody has loaded p_φ."""
        if self.classifier is None:
            raise ValueError("this guidance needs a classifier, and models has none")
        return class_log_prob(self.classifier, y, exclusive=self.exclusive)

    def noise(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """x_T ~ N(0, I), (n, C, H, W); a CPU generator gives every device the same."""
        a = self.unet.architecture
        x_T = torch.randn(n, a["channels"], a["size"], a["size"], generator=generator)
        return x_T.to(self.device)


def load_models(
    directory: str | Path,
    *,
    classifier: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Models:
    """unet.safetensors, and classifier.safetensors if asked for, from a weights directory.

    directory may also be a file, which is then the U-Net, as unet-raw.safetensors is one.
    dtype: the autocast type that the U-Net is to predict in, whose layout in memory it gets.
    FileNotFoundError or ValueError, with what to do, if a file is missing or the two don't match.
    """
    path = Path(directory)
    directory = home(path)
    path = path if path != directory else directory / "unet.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path.name} in the directory {directory}; {how_to_get('unet', directory, {})}"
        )
    unet, info = load(path)
    if not isinstance(unet, UNet):
        raise ValueError(f"{path} holds a {type(unet).__name__}, not a UNet")
    schedule_info, names = info.get("schedule"), info.get("classes")
    if not isinstance(schedule_info, dict) or not isinstance(names, list):
        raise ValueError(f"{path} does not say its schedule and classes")
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} does not name its classes by texts, but {names!r:.80}")
    if len(names) != unet.null_token:
        raise ValueError(f"{path} names {len(names)} classes for K = {unet.null_token}")
    try:
        schedule = Schedule.from_info(schedule_info)
    except ValueError as error:
        raise ValueError(f"{path} names a schedule that can't be made: {error}") from error
    p_phi = _classifier(directory, info).to(device) if classifier else None
    layout = memory_format(torch.device(device), predicts_float32=dtype is None)
    return Models(unet.to(device).to(memory_format=layout), p_phi, schedule, names, info)


def home(weights: str | Path) -> Path:
    """The directory of --weights, which may also name a file in it."""
    path = Path(weights)
    return path.parent if path.is_file() or path.suffix == ".safetensors" else path


def unfinished(info: Mapping[str, Any]) -> str:
    """What is to be said of weights that were written before the end of their training, or ""."""
    step, steps = info.get("step"), info.get("steps")
    whole = not (isinstance(step, int) and isinstance(steps, int)) or step >= steps
    return "" if whole else f"an unfinished run: the weights are those of step {step} of {steps}"


def how_to_get(name: str, directory: Path, info: Mapping[str, Any]) -> str:
    """The command that makes a NAME.safetensors: in this run, if it is one, or else a new one."""
    if not (directory / "config.json").is_file():
        if "pictures" in info:
            return "`python -m train --data DIR` makes one, in runs/NAME of the folder"
        preset = info.get("data") if info.get("data") in PRESETS else "digits"
        return f"`python -m train --preset {preset}` makes one, in runs/{preset}"
    config, steps, more = info.get("config"), info.get("steps"), ""
    if isinstance(config, dict) and config.get(f"{name}_steps") == 0:
        half = steps // 2 if isinstance(steps, int) else 0
        more = f" --{name}-steps {max(half, 1)}"
    return f"`python -m train --out {shlex.quote(str(directory))} --resume{more}` makes one"


def _classifier(directory: Path, info: dict[str, Any]) -> NoisyClassifier:
    path = directory / "classifier.safetensors"
    if not path.is_file():
        if len(info["classes"]) < 2:
            raise ValueError(f"{directory} knows one class, and a classifier tells classes apart")
        advice = how_to_get("classifier", directory, info)
        raise FileNotFoundError(f"no classifier.safetensors in the directory {directory}; {advice}")
    classifier, other = load(path)
    if not isinstance(classifier, NoisyClassifier):
        raise ValueError(f"{path} holds a {type(classifier).__name__}, not a NoisyClassifier")
    for key in ("schedule", "classes", "concepts"):
        if other.get(key) != info.get(key):
            raise ValueError(
                f"{path} was trained with another {key} than the U-Net: {other.get(key)} instead "
                f"of {info.get(key)}"
            )
    for key in ("size", "channels"):
        if classifier.architecture[key] != info["architecture"][key]:
            raise ValueError(
                f"{path} takes images of {key} {classifier.architecture[key]}, the U-Net of "
                f"{info['architecture'][key]}"
            )
    return classifier
