"""One's own pictures, a folder for each class as torchvision's ImageFolder has it, as a Dataset."""

import hashlib
import json
import os
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from guidance.app.flags import read
from train.config import Config
from train.data import Dataset
from train.pictures import decode_all, few, find
from unet.files import replacing

READING = ("size", "grey", "flip", "held_out", "seed")  # the settings that say how they are read


def load_folder(config: Config) -> Dataset:
    """The pictures of config.data, with the name of its folder and a slash: no other set has one.

    Held out of each class, if it has more than one picture, is the share config.held_out: the
    pictures whose SHA-256 of seed and path comes first, so that one more moves hardly another.
    ValueError that names every fault of the directory, and the pictures that can't be read.
    """
    root = Path(config.data)
    found = find(root)
    names = list(found)
    order = [(k, path) for k, name in enumerate(names) for path in found[name]]
    order.sort(key=lambda picture: _digest(f"{config.seed}/{_text(picture[1])}"))  # well mixed
    images = decode_all([root / path for _, path in order], config.size, config.grey)
    labels = torch.tensor([k for k, _ in order])
    test = torch.zeros(len(order), dtype=torch.bool)
    for k, name in enumerate(names):
        n = len(found[name])
        test[torch.where(labels == k)[0][: min(n - 1, max(1, round(config.held_out * n)))]] = True
    listing = [f"{_text(path)} {(root / path).stat().st_size}" for _, path in order]
    pictures = {name: getattr(config, name) for name in READING}
    pictures |= {"number": len(order), "files": _digest("\n".join(sorted(listing)))}
    return Dataset(
        f"{_text(os.path.basename(os.path.abspath(root)))}/",
        *(images[~test], labels[~test], images[test], labels[test]),
        classes=[_text(name) for name in names],
        flip=config.flip,
        pictures=pictures,
    )


def load_again(directory: str, info: Mapping[str, Any]) -> Dataset:
    """The pictures that weights with this info were trained on, read and split as they were then.

    ValueError if they have other classes. If other files are there, that is said on stderr.
    """
    if not directory:
        raise ValueError(f"--data must name the folder {info.get('data')} again: these weights "
                         "were trained on its pictures, which they do not hold")  # fmt: skip
    try:
        settings = {name: info["pictures"][name] for name in READING}
        config = read(Config, {**settings, "data": directory})
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the weights do not say how pictures are read: {error}") from error
    data = load_folder(config)
    compare(data, info)
    if len(data.test_images) < 4:
        raise ValueError(f"--data: {data.name} has {len(data.test_images)} held-out pictures, too "
                         "few to measure samples against")  # fmt: skip
    return replace(data, name=str(info["data"]))


def compare(data: Dataset, before: Mapping[str, Any]) -> None:
    """Say on stderr if the files are not those of before. ValueError if the classes are not."""
    if data.classes != before["classes"]:
        raise ValueError(f"--data: {data.name} has the classes {few(data.classes)}, and not those "
                         f"that were trained on, {few(before['classes'])}")  # fmt: skip
    was, now = before["pictures"], data.pictures
    if was.get("files") != now["files"]:
        print(f"{data.name} has changed since training began: {was.get('number')} pictures then, "
              f"{now['number']} now, or other ones", file=sys.stderr)  # fmt: skip


def remember(path: Path, data: Dataset, write: bool) -> Dataset:
    """The data of a run, compared with what it began with if it goes on; that is in the file."""
    here = {"data": data.name, "classes": data.classes, "pictures": data.pictures}
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            compare(data, before)
            return replace(data, name=str(before["data"]))  # the folder may have been renamed
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} can't be read: {error}") from error
    if write:
        with replacing(path) as partial:
            partial.write_text(json.dumps(here, indent=2) + "\n", encoding="utf-8")
    return data


def _text(name: str) -> str:
    """A file's name as text that every file of results can hold, the same on every system."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:32]}"
