"""The networks: no diffusion mathematics, only images, times and labels in, tensors out."""

import openmp  # noqa: F401 (before torch)
from unet.classifier import NoisyClassifier
from unet.judge import Judge
from unet.unet import UNet
from unet.weights import load, save

__all__ = ["Judge", "NoisyClassifier", "UNet", "load", "save"]
