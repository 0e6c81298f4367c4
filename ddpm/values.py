"""What counts as a number, wherever it comes from: Python, numpy or torch."""

import contextlib
import numbers
import operator
from typing import Any

import torch
from torch import Tensor


def float64(name: str, value: Any) -> Tensor:
    """value as a float64 tensor on the CPU. ValueError if it is none of real numbers."""
    with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
        if not (isinstance(value, Tensor) and value.is_complex()):  # i would be dropped
            return torch.as_tensor(value, dtype=torch.float64, device="cpu")
    raise ValueError(f"{name} must hold real numbers, got {value!s:.80}")


def integer(value: Any) -> int | None:
    """value as an int, numpy's and torch's integers among them; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def is_number(value: Any) -> bool:
    """Whether value is a finite real number, numpy's among them, and no bool."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    with contextlib.suppress(OverflowError):  # of an integer that no float reaches
        return real and -1e300 < float(value) < 1e300  # a float, as numpy's would round the bounds
    return False
