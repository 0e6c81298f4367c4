"""Weights on disk: one safetensors file that says itself what it is and how it was trained."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from unet.classifier import NoisyClassifier
from unet.judge import Judge
from unet.unet import UNet

Model = UNet | NoisyClassifier | Judge
MODELS: dict[str, type[UNet] | type[NoisyClassifier] | type[Judge]] = {
    "UNet": UNet,
    "NoisyClassifier": NoisyClassifier,
    "Judge": Judge,
}


def save(path: str | os.PathLike[str], model: Model, info: dict[str, Any]) -> None:
    """Write the weights and, as JSON in the file's header, info with the model's architecture.

    info: plain data, by custom "schedule" (`schedule.info`), "data" and "classes" (their names).
    A file that is already there is replaced only once the new one is whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"info": json.dumps({**info, "architecture": model.architecture})}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata)
    os.replace(partial, path)


def load(path: str | os.PathLike[str]) -> tuple[Model, dict[str, Any]]:
    """The model (on the CPU, float32, in eval mode) and its info; needs nothing but the file.

    Nothing is unpickled. FileNotFoundError if there is no file; ValueError if it is truncated,
    not safetensors, or its tensors don't fit the architecture that it names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads((file.metadata() or {}).get("info", "null"))
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)
            model = _build(info, path)
            _check_shapes(model, shapes, path)
            state = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(f"{path} holds values that are not finite, in {bad[0]}")
    model.load_state_dict(state)
    return model.eval(), info


def _build(info: Any, path: Path) -> Model:
    architecture = info.get("architecture") if isinstance(info, dict) else None
    if not isinstance(architecture, dict) or architecture.get("name") not in MODELS:
        raise ValueError(f"{path} does not name an architecture of {sorted(MODELS)} in its header")
    arguments = {key: value for key, value in architecture.items() if key != "name"}
    try:
        return MODELS[architecture["name"]](**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} describes a network that can't be built: {error}") from error


def _check_shapes(model: nn.Module, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise ValueError(
                f"{path} is of another architecture than its header says: {name} is "
                f"{shapes.get(name, 'missing')} instead of {expected.get(name, 'absent')}"
            )
