"""The judge of a weights directory."""

from pathlib import Path
from typing import Any

from guidance.app.models import how_to_get
from unet import Judge, load


def load_judge(directory: Path, unet_info: dict[str, Any]) -> Judge:
    """The judge beside the networks. FileNotFoundError or ValueError if there is none of theirs."""
    path = directory / "judge.safetensors"
    if not path.is_file():
        advice = how_to_get("judge", directory, unet_info)
        raise FileNotFoundError(f"no judge.safetensors in --weights {directory}; {advice}")
    judge, info = load(path)
    data = unet_info.get("data")
    if not isinstance(judge, Judge) or info.get("data") != data:
        raise ValueError(f"{path} is not a judge of {data}")
    return judge
