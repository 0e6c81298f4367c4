"""What every measurement needs: trained networks, their judge, real images, many samples."""

import argparse
import dataclasses
import hashlib
from functools import cache, cached_property
from pathlib import Path

import torch
from guidance.command import choose_device
from guidance.models import load_models
from guidance.sampling import Request, Sampler
from torch import Tensor

from train import metrics, ranks
from train.config import PRESETS
from train.data import Dataset, load_data
from train.hardware import autocast_dtype, compile_network, memory_format
from train.judge import ask, classification_accuracy_score
from unet import Judge, load

CAS_STEPS = 300  # batches of 64 that the fresh judge of a classification accuracy score sees


class Lab:
    """The networks and the real images of one weights directory."""

    def __init__(self, args: argparse.Namespace, *, classifier: bool) -> None:
        directory = Path(args.weights)
        self.device = choose_device(args.device)
        self.models = load_models(directory, classifier=classifier, device=self.device)
        self.models.unet.to(memory_format=memory_format(self.device))
        compile_network(self.models.unet, args.compile, self.device)
        path = directory / "judge.safetensors"
        if not path.is_file():
            raise FileNotFoundError(
                f"no judge.safetensors in --weights {directory}; `python -m train` trains one"
            )
        judge, info = load(path)
        if not isinstance(judge, Judge) or info.get("data") != self.models.info.get("data"):
            raise ValueError(f"{path} is not a judge of {self.models.info.get('data')}")
        self.judge = judge.to(self.device)
        self.data: Dataset = load_data(str(info["data"]), args.data_dir)
        self.precision: str = args.precision
        self.K = len(self.models.classes)
        self.batch_size: int = args.batch_size
        self.dtype = autocast_dtype(args.precision, self.device)
        names = ("unet", "judge", "classifier")[: 2 + classifier]
        self.fingerprint = _fingerprint([directory / f"{name}.safetensors" for name in names])

    def balanced(self, n: int) -> Tensor:
        """n labels (n,), the same number of each class."""
        if n < self.K or n % self.K:
            raise ValueError(f"--n must be a multiple of the {self.K} classes, got {n}")
        return torch.arange(self.K).repeat_interleave(n // self.K)

    def draw(
        self, request: Request, sampler: Sampler, c: Tensor, seed: int, text: str = "samples"
    ) -> Tensor:
        """One sample for each label of c (n,), ∅ allowed: (n, C, H, W) on the CPU, on rank 0."""
        return ranks.draw(
            self.models,
            request,
            sampler,
            c,
            seed,
            batch_size=self.batch_size,
            dtype=self.dtype,
            text=text,
        )

    @cached_property
    def test(self) -> Tensor:
        """The judge's features of the real test images."""
        return ask(self.judge, self.data.scale(self.data.test_images))[0]

    @cached_property
    def train(self) -> Tensor:
        """The judge's features of the real training images."""
        return ask(self.judge, self.data.scale(self.data.images))[0]

    def judged_on_real(self) -> float:
        """The judge's accuracy on the real test images: what a perfect sampler could reach."""
        right = self.judge.logits(self.test.to(self.device)).argmax(1).cpu()
        return float((right == self.data.test_labels).double().mean())

    def some(self, n: int, seed: int) -> Tensor:
        """Places of n real training images, the same number of each class as in `balanced`."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.data.images), generator=generator)
        labels, each = self.data.labels[order], n // self.K
        most = int(torch.bincount(labels).min()) * self.K
        if n > most:
            raise ValueError(f"--n must be at most {most}, as many real images are there; got {n}")
        return torch.cat([order[labels == k][:each] for k in range(self.K)])

    def measure(self, x: Tensor, c: Tensor, seed: int) -> dict[str, float]:
        """Every number that samples x (n, C, H, W) of the classes c (n,) can be given at once.

        Most that depend on n have a companion: what as many real training images get.
        """
        features, logits = ask(self.judge, x)
        floor, floor_diversity, floor_precision, floor_recall = self.floor(len(x), seed)
        precision, recall = metrics.precision_recall(self._few(len(x), seed), features)
        return {
            "class_accuracy": float((logits.argmax(1) == c).double().mean()),
            "inception_score": metrics.inception_score(logits),
            "frechet": metrics.frechet_distance(self.test, features),
            "frechet_real": floor,
            "precision": precision,
            "precision_real": floor_precision,
            "recall": recall,
            "recall_real": floor_recall,
            "diversity": metrics.diversity(features, c),
            "diversity_real": floor_diversity,
        }

    @cache  # noqa: B019 (a lab lives as long as the command)
    def floor(self, n: int, seed: int) -> tuple[float, float, float, float]:
        """Distance to the test set, diversity, precision and recall of n real training images."""
        some = self.some(n, seed)
        features, c = self.train[some], self.data.labels[some]
        distance = metrics.frechet_distance(self.test, features)
        precision, recall = metrics.precision_recall(self._few(n, seed), features)
        return distance, metrics.diversity(features, c), precision, recall

    def _few(self, n: int, seed: int) -> Tensor:
        """The features of n real test images, or of all if there are fewer."""
        generator = torch.Generator().manual_seed(seed)
        return self.test[torch.randperm(len(self.test), generator=generator)[:n]]

    def cas(self, x: Tensor, c: Tensor, seed: int) -> dict[str, float]:
        """The classification accuracy score of x, c, and that of as many real images."""
        return {"cas": self._cas(x, c), "cas_real": self.cas_of_real(len(x), seed)}

    @cache  # noqa: B019 (a lab lives as long as the command)
    def cas_of_real(self, n: int, seed: int) -> float:
        """The same for n real training images."""
        some = self.some(n, seed)
        return self._cas(self.data.scale(self.data.images[some]), self.data.labels[some])

    def _cas(self, x: Tensor, c: Tensor) -> float:
        config = dataclasses.replace(PRESETS[self.data.name], precision=self.precision)
        steps = max(CAS_STEPS, 15 * len(x) // config.batch_size)  # each image 15 times, if many
        return classification_accuracy_score(self.data.to(self.device), x, c, config, steps)


def _fingerprint(paths: list[Path]) -> str:
    """The start of the SHA-256 of the files' contents, one after the other."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths))
    return f"sha256:{digest.hexdigest()[:12]}"
