"""Denoising diffusion, the mathematics only: no network, no class label, no file."""

import os

# Before torch loads libgomp, whose threads else spin long enough at a small network's many barriers
# for it to stand still beside another program: docs/speed.md. What the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

from ddpm.bound import Bound, variational_bound
from ddpm.dpm_solver import dpm_solver
from ddpm.forward import q_posterior, q_sample
from ddpm.loss import Predictor, simple_loss
from ddpm.mixture import GaussianMixture
from ddpm.reverse import Step, ancestral, ddim, predict_x_0, reverse_mean
from ddpm.schedule import Schedule, cosine_schedule, linear_schedule, timesteps

__all__ = [
    "Bound",
    "GaussianMixture",
    "Predictor",
    "Schedule",
    "Step",
    "ancestral",
    "cosine_schedule",
    "ddim",
    "dpm_solver",
    "linear_schedule",
    "predict_x_0",
    "q_posterior",
    "q_sample",
    "reverse_mean",
    "simple_loss",
    "timesteps",
    "variational_bound",
]
