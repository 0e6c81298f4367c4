"""Weights on disk: one safetensors file that says itself what it is and how it was trained."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from unet.classifier import NoisyClassifier
from unet.files import replacing
from unet.judge import Judge
from unet.unet import UNet

Model = UNet | NoisyClassifier | Judge
# What a tensor may be stored as, by what the network computes in.
STORED = {torch.float32: ("F32", "F16", "BF16"), torch.int64: ("I64",)}
MODELS: dict[str, type[UNet] | type[NoisyClassifier] | type[Judge]] = {
    "UNet": UNet,
    "NoisyClassifier": NoisyClassifier,
    "Judge": Judge,
}


def save(path: str | os.PathLike[str], model: Model, info: dict[str, Any]) -> None:
    """Write the weights and, as JSON in the file's header, info with the model's architecture.

    info: plain data, by custom "schedule" (`schedule.info`), "data" and "classes" (their names).
    A file that is already there is replaced only once the new one is whole and on disk; OSError,
    with that file left as it was, if it can't be written.
    """
    path = Path(path)
    if type(model).__name__ not in MODELS:
        raise TypeError(f"model must be one of {sorted(MODELS)}, got {type(model).__name__}")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    try:
        text = json.dumps({**info, "architecture": model.architecture})
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"info must be a dict of plain data, as JSON holds it: {error}") from error
    with replacing(path) as partial, open(partial, "wb") as file:
        file.write(serialize(tensors, {"info": text}))


def load(path: str | os.PathLike[str]) -> tuple[Model, dict[str, Any]]:
    """The model (on the CPU, float32, in eval mode) and its info; needs nothing but the file.

    Nothing is unpickled, and nothing allocated before names, shapes and types fit the architecture
    that the header names. FileNotFoundError if there is no file, OSError if it can't be read;
    ValueError if it is truncated, not safetensors, doesn't fit, or holds what is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    try:
        # open() as well: safetensors calls a file missing that it has no right to read
        with open(path, "rb"), safe_open(path, framework="pt") as file:
            info = _info(file.metadata() or {}, path)
            model = _build(info, path)
            _check_tensors(model, file, path)
            state = {
                name: file.get_tensor(name).to(like.dtype, copy=True)  # no view of the file
                for name, like in model.state_dict().items()
            }
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    except OSError as error:
        raise OSError(f"{path} can't be read: {error}") from error
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(f"{path} holds values that are not finite, in {bad[0]}")
    model.load_state_dict(state, assign=True)
    return model.eval(), info


def _info(metadata: dict[str, str], path: Path) -> Any:
    try:
        return json.loads(metadata.get("info", "null"))
    except (ValueError, RecursionError) as error:  # brackets in brackets in brackets …
        raise ValueError(f"{path} holds no JSON in its header: {error}") from error


def _build(info: Any, path: Path) -> Model:
    """The network on the meta device, where tensors have shapes and no memory."""
    architecture = info.get("architecture") if isinstance(info, dict) else None
    if not isinstance(architecture, dict) or str(architecture.get("name")) not in MODELS:
        raise ValueError(f"{path} does not name an architecture of {sorted(MODELS)} in its header")
    arguments = {key: value for key, value in architecture.items() if key != "name"}
    try:
        with torch.device("meta"):
            return MODELS[architecture["name"]](**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} describes a network that can't be built: {error}") from error


def _check_tensors(model: Model, file: Any, path: Path) -> None:
    found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    model_state = model.state_dict()
    shapes = {name: tuple(tensor.get_shape()) for name, tensor in found.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in model_state.items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise ValueError(
                f"{path} is of another architecture than its header says: {name} is "
                f"{shapes.get(name, 'missing')} instead of {expected.get(name, 'absent')}"
            )
        stored, allowed = found[name].get_dtype(), STORED[model_state[name].dtype]
        if stored not in allowed:
            raise ValueError(f"{path} holds {name} as {stored}, which must be one of {allowed}")
