"""The bounds of a number that a flag takes, as `flags.flag` notes them."""

import math
from collections.abc import Mapping
from typing import Any


def inside(m: Mapping[str, Any], value: float) -> bool:
    """Whether the value is finite and within the bounds."""
    within = m["least"] <= value <= m["most"] and m["above"] < value < m["below"]
    return bool(within and _finite(value))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float reaches
        return False


def in_words(m: Mapping[str, Any], value: float) -> str:
    """What is allowed, in words."""
    if not _finite(value) and m["most"] == m["below"] == math.inf:
        return "a finite number"
    low, high = max(m["least"], m["above"]), min(m["most"], m["below"])
    left, right = (str(v) if isinstance(v, int) else f"{v:g}" for v in (low, high))
    if math.isfinite(low) and math.isfinite(high):
        if isinstance(low, int) and isinstance(high, int) and isinstance(value, int):
            return f"in {left}..{right}"
        opening, closing = "(" if low > m["least"] else "[", ")" if high < m["most"] else "]"
        return f"in {opening}{left}, {right}{closing}"
    if math.isfinite(low):
        return f"above {left}" if low > m["least"] else f"at least {left}"
    return f"below {right}" if high < m["most"] else f"at most {right}"
