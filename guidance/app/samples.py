"""Samples on disk: a PNG of each, and all in one .npz as the tools that measure FID take it."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from guidance.app.pictures import as_bytes
from unet.files import replacing


def check_free(directory: Path) -> None:
    """ValueError where samples are already: a tool that reads the directory would mix the two."""
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is no directory to save samples in")
    if any(directory.glob("*.png")) or (directory / "samples.npz").exists():
        raise ValueError(f"{directory} has samples in it already; save these in another directory")


def save_samples(directory: Path, images: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    """Write NAME.png for each image (N, C, H, W) in [-1, 1], and samples.npz.

    In samples.npz arr_0 holds the images, (N, H, W, 3) uint8, grey as three equal channels, and
    labels (N,) what they were drawn for, ∅ = K. OSError that names the file that can't be written.
    """
    pixels = as_bytes(images).numpy()  # (N, H, W, C)
    for name, picture in zip(names, pixels, strict=True):
        with replacing(directory / f"{name}.png") as partial:
            Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(partial)
    colours = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    with replacing(directory / "samples.npz") as partial:
        np.savez_compressed(partial, arr_0=colours, labels=labels.cpu().numpy())


def names_of(labels: Sequence[str], n: int) -> list[str]:
    """rowRR-imageIII-LABEL for n images of each row's label, fit for any file system."""
    found = []
    for row, label in enumerate(labels):
        word = re.sub(r"[^\w.-]+", "_", label.replace("∅", "null"))[:60].strip("._") or "class"
        found += [f"row{row:03d}-image{k:03d}-{word}" for k in range(n)]
    return found
