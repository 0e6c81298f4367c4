"""TEMPORARY: what train/'s core still imports, until helper TRAIN's branch is merged. Drop it."""

import argparse
from typing import Any

from guidance.app.flags import Parser, run
from unet.device import choose_device
from unet.files import replacing

__all__ = ["Parser", "choose_device", "integers", "replacing", "run"]


def integers(text: str) -> list[Any]:
    """The integers in "0,5,10"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError("must be integers with commas between") from None
