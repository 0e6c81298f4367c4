"""The networks: no diffusion mathematics, only images, times and labels in, tensors out."""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # before torch, as in ddpm
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

from unet.classifier import NoisyClassifier
from unet.judge import Judge
from unet.unet import UNet
from unet.weights import load, save

__all__ = ["Judge", "NoisyClassifier", "UNet", "load", "save"]
