"""Guidance: predictors in, a predictor out. One file per formula."""

from guidance.classifier import (
    class_log_prob,
    classifier_guidance,
    classifier_mean_shift,
)
from guidance.classifier_free import classifier_free_guidance
from guidance.dropout import drop_labels
from guidance.dynamic import posterior_negative_guidance
from guidance.negative import negative_guidance

__all__ = [
    "class_log_prob",
    "classifier_free_guidance",
    "classifier_guidance",
    "classifier_mean_shift",
    "drop_labels",
    "negative_guidance",
    "posterior_negative_guidance",
]
