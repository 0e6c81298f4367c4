"""The data sets: kept on the training device as small integers, and cut into batches there."""

import os
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.scenes import CONCEPTS, draw

# Their name in torchvision, and whether a mirrored image is one of the same class. Its other sets
# do not have the interface of these: their images lie on their side, or their labels start at 1.
SETS = {
    "mnist": ("MNIST", False),
    "fashion-mnist": ("FashionMNIST", False),
    "kmnist": ("KMNIST", False),
    "cifar10": ("CIFAR10", True),
    "cifar100": ("CIFAR100", True),
}
# Of MNIST's unpacked files torchvision asks only whether they are there.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@dataclass(frozen=True)
class Dataset:
    """Labelled images as integers 0..levels−1; x = 2·value/(levels − 1) − 1 lies in [-1, 1]."""

    name: str
    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64 in 0..K-1; or (N, K) bool, the concepts that are true of each
    test_images: Tensor  # (M, C, H, W) uint8
    test_labels: Tensor  # (M,) or (M, K)
    classes: list[str]  # K names
    levels: int = 256
    flip: bool = False  # mirror images at random: not for digits
    pictures: dict[str, Any] = field(default_factory=dict)  # of a folder: what finds them again

    @property
    def exclusive(self) -> bool:
        """Whether labels are classes, of which an image has one, and not concepts."""
        return self.labels.ndim == 1

    def to(self, device: torch.device | str) -> "Dataset":
        names = ("images", "labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def scale(self, images: Tensor) -> Tensor:
        """uint8 -> float32 in [-1, 1]."""
        return images.float() * (2 / (self.levels - 1)) - 1

    def quantise(self, x: Tensor) -> Tensor:
        """float in [-1, 1], clipped -> uint8: the inverse of `scale`."""
        return ((x.clamp(-1, 1) + 1) * ((self.levels - 1) / 2)).round().to(torch.uint8)

    def batch(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n images drawn at random: (n, C, H, W) float32 in [-1, 1], and their labels."""
        device = self.images.device
        i = torch.randint(len(self.images), (n,), generator=generator, device=device)
        x = self.scale(self.images[i])
        if self.flip:
            mirror = torch.rand(n, 1, 1, 1, generator=generator, device=device) < 0.5
            x = torch.where(mirror, x.flip(3), x)
        return x, self.labels[i]


def load_data(name: str, data_dir: str) -> Dataset:
    """digits (inside scikit-learn), or one of torchvision's (from data_dir or downloaded).

    ValueError with what to do if the files can't be had, or one is not what was published.
    """
    if name == "digits":
        return _digits()
    if name == "scenes":
        return scenes(load_data("mnist", data_dir))
    if name not in SETS:
        names = ", ".join(SETS)
        raise ValueError(f"data set must be digits, scenes or one of {names}, got {name!r}")
    return _torchvision(name, data_dir)


def scenes(mnist: Dataset) -> Dataset:
    """MNIST's digits with a ring beside them or in bold strokes: labels (N, 12) bool, concepts."""
    train = draw(mnist.images, mnist.labels, seed=0)
    test = draw(mnist.test_images, mnist.test_labels, seed=1)
    return Dataset("scenes", *train, *test, classes=CONCEPTS)


def _digits() -> Dataset:
    """1,797 handwritten digits of 8×8 pixels and 17 grey levels; every fifth is held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    x, x_test = (torch.from_numpy(part.astype(np.uint8)).view(-1, 1, 8, 8) for part in split[:2])
    c, c_test = (torch.from_numpy(part.astype(np.int64)) for part in split[2:])
    return Dataset("digits", x, c, x_test, c_test, [str(k) for k in range(10)], levels=17)


def _torchvision(name: str, data_dir: str) -> Dataset:
    from torchvision import datasets

    root, (kind, flip) = Path(data_dir), SETS[name]
    dataset = getattr(datasets, kind)
    place = getattr(dataset, "base_folder", f"{kind}/raw/*.gz")
    hint = f"expected in {root / place}; `--preset digits` needs no download"
    check_files(kind, root)
    try:
        train, test = (dataset(root, train=part) for part in (True, False))
    except Exception:  # not there, or not whole: torchvision mends or fetches it
        train, test = _download(dataset, root, hint)
    images = [torch.as_tensor(part.data) for part in (train, test)]  # (N, H, W) or (N, H, W, 3)
    x, x_test = (i[:, None] if i.ndim == 3 else i.permute(0, 3, 1, 2) for i in images)
    c, c_test = (torch.as_tensor(part.targets, dtype=torch.int64) for part in (train, test))
    classes = [label.split(" - ")[0] for label in train.classes]  # MNIST's are "0 - zero", …
    return Dataset(name, x.contiguous(), c, x_test.contiguous(), c_test, classes, flip=flip)


def check_files(name: str, root: Path) -> None:
    """ValueError that names the first file whose checksum is not the published one.

    Before anything is read: CIFAR's files are pickles. Archives count where they will be used.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    dataset = getattr(datasets, name)
    if issubclass(dataset, datasets.MNIST):
        raw = root / name / "raw"
        unpacked = MNIST_MD5 if name == "MNIST" else {}  # of the others nothing is published
        files = {raw / file: md5 for file, md5 in unpacked.items()}
        archives = {
            raw / file: md5
            for file, md5 in dataset.resources
            if not os.path.lexists(raw / file.removesuffix(".gz"))
        }
    else:
        base, meta = root / dataset.base_folder, (dataset.meta["filename"], dataset.meta["md5"])
        batches = [*dataset.train_list, *dataset.test_list, meta]
        files = {base / file: md5 for file, md5 in batches}
        whole = all(os.path.lexists(path) for path in files)
        archives = {} if whole else {root / dataset.filename: dataset.tgz_md5}
    for path, md5 in (files | archives).items():
        if os.path.lexists(path) and not check_integrity(path, md5):
            raise ValueError(
                f"{path} is not the file that {name} was published with (wrong checksum): remove "
                "it, and it is fetched or unpacked again"
            )


def _download(dataset: Any, root: Path, hint: str) -> tuple[Any, Any]:
    """Both parts, unpacked from the archives in root, or fetched from the network."""
    name = dataset.__name__
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--data-dir {root} can't be made ({error}); {name}: {hint}") from error
    if not os.access(root, os.W_OK):
        raise ValueError(f"--data-dir {root} can't be written; {name}: {hint}")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # a network that swallows packets must not hang the run
    try:
        return dataset(root, train=True, download=True), dataset(root, train=False, download=True)
    except Exception as error:  # a broken file may raise anything, from gzip, struct or an assert
        raise ValueError(f"{name} could not be downloaded or read ({error}); {hint}") from error
    finally:
        socket.setdefaulttimeout(timeout)
