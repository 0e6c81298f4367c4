"""Is it the digit that was asked for? A judge trained on real images, unseen by the diffusion."""

import torch
from sklearn.svm import SVC
from torch import Tensor

from ddpm import Schedule, ddim
from guidance import classifier_free_guidance
from train.data import Dataset
from unet import UNet


class SVMJudge:
    """scikit-learn's SVM (RBF) on the pixels of the real training images."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.svm = SVC(gamma="scale", C=10.0)
        self.svm.fit(data.scale(data.images).flatten(1).cpu().numpy(), data.labels.cpu().numpy())

    def accuracy(self, x: Tensor, c: Tensor) -> float:
        """Share of the images x (B, C, H, W) in [-1, 1] that are taken for their class c (B,)."""
        pixels = x.clamp(-1, 1).flatten(1).cpu().numpy()
        return float((self.svm.predict(pixels) == c.cpu().numpy()).mean())

    def accuracy_on_real(self) -> float:
        """The same on the held-out real images: what a perfect sampler could reach."""
        return self.accuracy(self.data.scale(self.data.test_images), self.data.test_labels)


def class_samples(
    unet: UNet, schedule: Schedule, *, w: float, per_class: int, steps: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Classifier-free samples of every class: x (K·per_class, C, H, W) and c, sorted by class."""
    a, device = unet.architecture, next(unet.parameters()).device
    c = torch.arange(unet.null_token).repeat_interleave(per_class)  # (K·per_class,)
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn(len(c), a["channels"], a["size"], a["size"], generator=generator)
    predictor = classifier_free_guidance(unet, c, w, null=unet.null_token)
    *_, last = ddim(schedule, predictor, x_T.to(device), steps)
    return last.x, c.to(device)
