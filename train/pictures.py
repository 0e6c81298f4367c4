"""Pictures on disk: which there are in a folder for each class, and how one becomes a tensor."""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def find(root: Path) -> dict[str, list[str]]:
    """The folders in root, sorted, each with the paths of its pictures from root. No dotfiles."""
    from torchvision.datasets.folder import IMG_EXTENSIONS  # seconds, and only here

    if not root.is_dir():
        raise ValueError(f"--data {root} is no directory")
    inside = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    folders, stray = [p for p in inside if p.is_dir()], [p for p in inside if not p.is_dir()]
    if not folders:
        raise ValueError(f"--data {root} must hold a folder for each class, with its pictures")
    if {p.name.lower() for p in folders} <= PARTS and all(_folders(p) for p in folders):
        raise ValueError(f"--data {root} holds no classes, but the parts of a data set: name one, "
                         f"such as {folders[-1]}, of which a share is held out")  # fmt: skip
    found: dict[str, list[str]] = {}
    for folder in folders:
        files = list(_files(folder))
        pictures = [p for p in files if p.suffix.lower() in IMG_EXTENSIONS]
        stray += [p for p in files if p.suffix.lower() not in IMG_EXTENSIONS]
        if not pictures:
            raise ValueError(f"--data: {folder} has no pictures, and a class needs one at least")
        found[folder.name] = [p.relative_to(root).as_posix() for p in pictures]
    if stray:
        print(f"not pictures, and ignored: {few([str(p) for p in stray])}", file=sys.stderr)
    return found


def _files(folder: Path) -> Iterator[Path]:
    """All files in it and below, sorted; each directory once, though links lead in a circle."""
    seen = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        here = os.path.realpath(place)
        names = sorted(n for n in names if not n.startswith("."))
        folders[:] = sorted(f for f in folders if not f.startswith(".") and here not in seen)
        if here not in seen:
            yield from (Path(place, name) for name in names)
        seen.add(here)


def _raise(error: OSError) -> None:
    raise error


def _folders(path: Path) -> bool:
    return any(p.is_dir() and not p.name.startswith(".") for p in path.iterdir())


def decode_all(paths: list[Path], size: int, grey: bool) -> torch.Tensor:
    """(N, C, size, size) uint8. ValueError that names what can't be read."""
    images = torch.empty(len(paths), 1 if grey else 3, size, size, dtype=torch.uint8)
    broken = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of oddities in files that it reads all the same
        for i, path in enumerate(tqdm(paths, "reading pictures", leave=False, disable=None)):
            try:
                images[i] = torch.from_numpy(decode(path, size, grey))
            except Exception as error:  # a broken file may raise anything
                broken.append(f"{path} ({error})")
    if broken:
        raise ValueError(f"--data: {len(broken)} of {len(paths)} pictures can't be read; mend or "
                         f"remove {few(broken)}")  # fmt: skip
    return images


def decode(path: Path, size: int, grey: bool) -> np.ndarray:
    """One picture as (C, size, size) uint8: upright, over white, its centre square, antialiased."""
    if not path.is_file():  # a pipe would be waited for
        raise OSError("it is no file")
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16 bits of grey
            values = (np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255)
            image = Image.fromarray(values.astype(np.uint8))
        elif image.mode == "F":
            raise ValueError("its values are floating-point numbers of no known range")
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if grey else "RGB")
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    pixels: np.ndarray = np.array(image).reshape(size, size, -1).transpose(2, 0, 1)
    return pixels


def few(names: list[str], most: int = 3) -> str:
    """The first of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
