"""What every measurement needs: trained networks, their judge, real images, many samples."""

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guidance.app.draw import DDIM_50, Sampler, draw
from guidance.app.flags import flag
from guidance.app.guides import Guide
from guidance.app.models import home, load_models
from train import ranks
from train.data import Dataset, load_data
from train.evaluate import metrics
from train.evaluate.judge import load_judge
from train.folder import load_again
from train.judge import ask, held_true
from unet.device import autocast_dtype, compile_network


@dataclass(frozen=True, kw_only=True)
class LabFlags:
    """The flags of every command that measures trained networks."""

    weights: str = flag("weights/mnist", "trained networks", metavar="DIR", path=True)
    data_dir: str = flag("data", "where torchvision's data sets are", path=True)
    data: str = flag("", "the folder of pictures, if it is one that they were trained on",
                     metavar="DIR", path=True)  # fmt: skip
    device: str = flag("auto", "auto, cpu, cuda, mps")
    precision: str = flag("auto", "of ε_θ", choices=("auto", "float32", "bfloat16"))
    compile: str = flag("auto", "torch.compile for ε_θ: faster samples, a minute later; auto is on "
                        "CUDA", choices=("auto", "on", "off"))  # fmt: skip


class Lab:
    """The networks and the real images of one weights directory."""

    def __init__(
        self,
        flags: LabFlags,
        device: torch.device,
        *,
        batch_size: int,
        classifier: bool = False,
        concepts: bool = False,  # whether labels may overlap
    ) -> None:
        directory = home(flags.weights)
        self.device, self.batch_size, self.precision = device, batch_size, flags.precision
        self.dtype = autocast_dtype(flags.precision, device)
        self.models = load_models(
            flags.weights, classifier=classifier, device=device, dtype=self.dtype
        )
        compile_network(self.models.unet, flags.compile, device)
        if self.models.K < 2:
            raise ValueError(f"--weights {directory} knows one class: no judge can measure it")
        if not (self.models.exclusive or concepts):
            raise ValueError(f"--weights {directory} knows concepts, of which several can be true; "
                             "`python -m train.experiments` timing, course, concepts and "
                             "target take them, and this measures classes")  # fmt: skip
        self.judge = load_judge(directory, self.models.info).to(device)
        self.data = _real_images(self.models.info, flags)
        self.K = self.models.K
        # What a row says of its networks: the files' contents, and the number type
        self.dtype_name = str(self.dtype or torch.float32).removeprefix("torch.")
        unet, names = Path(flags.weights), ("unet", "judge", "classifier")[: 2 + classifier]
        files = [directory / f"{name}.safetensors" for name in names]
        files[0] = unet if unet != directory else files[0]
        contents = b"".join(file.read_bytes() for file in files)
        self.fingerprint = f"sha256:{hashlib.sha256(contents).hexdigest()[:12]}"

    def labels(self, n: int) -> Tensor:
        """n labels (n,), the same number of each class.

        ValueError, before anything is drawn, if n is no multiple of K or above the real images.
        """
        if n < self.K or n % self.K:
            raise ValueError(f"--n must be a multiple of the {self.K} classes, got {n}")
        if n < 4:
            raise ValueError(f"--n must be at least 4, for a third neighbour, got {n}")
        most = int(torch.bincount(self.data.labels).min()) * self.K
        if n > most:
            raise ValueError(f"--n must be at most {most}, as many real images are there; got {n}")
        if min(n, len(self.data.test_images)) < 4:  # precision's third neighbour
            what = f"{n} samples and {len(self.data.test_images)} held-out images"
            raise ValueError(f"--n must be at least 4, with as many held-out images; got {what}")
        return torch.arange(self.K).repeat_interleave(n // self.K)

    def draw(
        self, guide: Guide, c: Tensor, seed: int, sampler: Sampler = DDIM_50, text: str = "samples"
    ) -> Tensor:
        """One sample for each label of c (n,), ∅ allowed: (n, C, H, W) on the CPU, on rank 0.

        Each is drawn by one of the ranks, and is the same for any number of them. Other ranks than
        0 get their own only.
        """
        mine = draw(
            self.models, guide, c, seed, sampler=sampler, batch_size=self.batch_size,
            dtype=self.dtype, text=text, only=slice(ranks.rank(), None, ranks.world()),
        )  # fmt: skip
        return ranks.in_order(mine)

    @cached_property
    def test_features(self) -> Tensor:
        """The judge's features of the real test images."""
        return ask(self.judge, self.data.scale(self.data.test_images))[0]

    @cached_property
    def train_features(self) -> Tensor:
        """The judge's features of the real training images."""
        return ask(self.judge, self.data.scale(self.data.images))[0]

    def held_true(self, x: Tensor) -> Tensor:
        """What the judge holds true of each image, (n, K) bool. x: (n, C, H, W)."""
        return held_true(ask(self.judge, x)[1], exclusive=self.models.exclusive)

    def judged(self, features: Tensor) -> Tensor:
        """The classes (n,) that the judge takes images with these features for."""
        return self.judge.logits(features.to(self.device)).argmax(1).cpu()

    def accuracy_on_real(self) -> float:
        """The judge's accuracy on the real test images: what a perfect sampler could reach."""
        return float((self.judged(self.test_features) == self.data.test_labels).double().mean())

    def balanced_sample(self, n: int, seed: int) -> Tensor:
        """Places of n real training images, the classes as in `labels`."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.data.images), generator=generator)
        c, each = self.data.labels[order], n // self.K
        return torch.cat([order[c == k][:each] for k in range(self.K)])

    def measure(self, x: Tensor, c: Tensor, seed: int) -> dict[str, float]:
        """Every number that samples x (n, C, H, W) of the classes c (n,) can be given at once.

        Those that depend on n have a companion: what as many real training images get.
        """
        features, logits = ask(self.judge, x)
        numbers = {
            "class_accuracy": float((logits.argmax(1) == c).double().mean()),
            "inception_score": metrics.inception_score(logits),
        }
        real = self.compare_real(len(x), seed)
        for name, value in self.compare(features, c, seed).items():
            numbers |= {name: value, f"{name}_real": real[name]}
        return numbers

    def compare(self, features: Tensor, c: Tensor, seed: int) -> dict[str, float]:
        """Features (n, F) of the classes c beside those of the real test images."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(self.test_features), generator=generator)[: len(features)]
        precision, recall = metrics.precision_recall(self.test_features[chosen], features)
        return {
            "frechet": metrics.frechet_distance(self.test_features, features),
            "precision": precision,
            "recall": recall,
            "diversity": metrics.diversity(features, c),
        }

    @cache  # noqa: B019 (a lab lives as long as the command)
    def compare_real(self, n: int, seed: int) -> dict[str, float]:
        """The same of n real training images."""
        chosen = self.balanced_sample(n, seed)
        return self.compare(self.train_features[chosen], self.data.labels[chosen], seed)


def _real_images(info: dict[str, Any], flags: LabFlags) -> Dataset:
    """What the networks were trained on, read again. ValueError if it is not to be had."""
    if "pictures" in info:
        return load_again(flags.data, info)
    if flags.data:
        raise ValueError(f"--data: the weights in {flags.weights} were not trained on a folder of "
                         f"pictures, but on {info['data']}")  # fmt: skip
    return load_data(str(info["data"]), flags.data_dir)
