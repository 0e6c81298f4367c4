"""The judge: an ordinary classifier of clean images, against which samples are measured."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet.checks import architecture, check_images


class Judge(nn.Module):
    """log-odds of the class of a clean image, and the features that distances are taken in.

    A small convolutional network, which knows no noise level and shares nothing with
    `NoisyClassifier`: what guides is not what judges. Five 3×3 convolutions with batch norm, two of
    them with stride 2, and a mean over the pixels. size, channels, classes: as for `UNet`.
    """

    def __init__(
        self, size: int = 28, channels: int = 1, classes: int = 10, width: int = 32
    ) -> None:
        super().__init__()
        self.architecture = architecture("Judge", locals())
        if classes < 2:
            raise ValueError(f"classes must be ≥ 2, got {classes}")
        self.num_features = 2 * width
        widths = [channels, width, width, 2 * width, 2 * width, 2 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride, padding=1, bias=False)
            for a, b, stride in zip(widths, widths[1:], (1, 2, 1, 2, 1), strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in widths[1:])
        self.head = nn.Linear(self.num_features, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, num_features), float32 at least. x: (B, channels, size, size) in [-1, 1]."""
        check_images(x, self.architecture)
        h = x
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = F.relu(norm(convolution(h)))
        return h.to(torch.promote_types(h.dtype, torch.float32)).mean(dim=(2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """(B, K) from what `features` gives."""
        logits: Tensor = self.head(F.dropout(features, 0.2, self.training))
        return logits.to(features.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K). x: (B, channels, size, size) in [-1, 1]."""
        return self.logits(self.features(x))
