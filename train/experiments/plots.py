"""What the experiments' plots and tables share: means with their intervals, lines, a grid."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t as student

from train.experiments.results import Row

# Okabe and Ito's: the colour-blind can tell them apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


class Summary(NamedTuple):
    """A mean, and half the width of its 95 % interval (NaN if there is one value alone)."""

    mean: float
    half: float

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        digits = 3 if abs(self.mean) < 10 else 2
        half = "" if math.isnan(self.half) else f" ± {self.half:.{digits}f}"
        return f"{self.mean:.{digits}f}{half}"


def summary(rows: Iterable[Row], column: str, **key: Any) -> Summary:
    """The mean of a column over the rows with this key, and its interval by Student's t."""
    values = [float(row[column]) for row in rows if all(row.get(k) == v for k, v in key.items())]
    n = len(values)
    if n < 2:
        return Summary(values[0] if values else math.nan, math.nan)
    half = student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    return Summary(float(np.mean(values)), float(half))


def proportion(count: int, n: int) -> Summary:
    """A share, and about half of Wilson's 95 % interval, which never has no width."""
    p, z = count / n, 1.96
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Summary(p, half)


def line(
    ax: Axes, x: Iterable[float], values: Sequence[Summary], colour: str, label: str, **style: Any
) -> None:
    """A line through the means, with the intervals as a band."""
    x, mean = np.array(list(x), float), np.array([v.mean for v in values])
    half = np.nan_to_num([v.half for v in values])
    ax.plot(x, mean, color=colour, label=label, **{"marker": "o", "markersize": 3, **style})
    ax.fill_between(x, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)


def grid(panels: int, columns: int, size: tuple[float, float] = (3.1, 2.5)) -> Any:
    """A figure, and its axes as a flat list; those without a panel are hidden."""
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), dpi=110, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(10)
    for ax in axes[panels:]:
        ax.set_visible(False)
    return figure, axes
