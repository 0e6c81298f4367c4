"""The blanks of notebook 5, filled in."""

import torch
from exercises import check


def token(t, negative, null, start, stop):
    """p₋ from t = start on, and ∅ again from t = stop on. t counts down: start > stop."""
    active = (stop < t) & (t <= start)
    return torch.where(active, negative, null)


check("NegPrompt Eq. 5", token)


def odds(p):
    """DNG Eq. 10: λ for p = p(c₋|x_t)."""
    return p / (1 - p)


check("DNG Eq. 10", odds)
