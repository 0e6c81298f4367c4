"""Guidance: predictors in, a predictor out. One file per formula."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if "OMP_WAIT_POLICY" not in os.environ:  # before torch, as in ddpm
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

if TYPE_CHECKING:
    from guidance.classifier import class_log_prob, classifier_guidance, classifier_mean_shift
    from guidance.classifier_free import classifier_free_guidance
    from guidance.dropout import drop_labels
    from guidance.dynamic import posterior_negative_guidance
    from guidance.negative import negative_guidance
    from guidance.stable_diffusion import negative_from

__all__ = [
    "class_log_prob",
    "classifier_free_guidance",
    "classifier_guidance",
    "classifier_mean_shift",
    "drop_labels",
    "negative_from",
    "negative_guidance",
    "posterior_negative_guidance",
]

_FILES = {
    "class_log_prob": "classifier",
    "classifier_free_guidance": "classifier_free",
    "classifier_guidance": "classifier",
    "classifier_mean_shift": "classifier",
    "drop_labels": "dropout",
    "negative_from": "stable_diffusion",
    "negative_guidance": "negative",
    "posterior_negative_guidance": "dynamic",
}


def __getattr__(name: str) -> Any:
    """Names come in when they are asked for: `python -m guidance --help` needs no torch."""
    if name not in _FILES:
        raise AttributeError(f"module 'guidance' has no attribute {name!r}")
    return getattr(importlib.import_module(f"guidance.{_FILES[name]}"), name)
