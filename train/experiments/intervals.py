"""What the experiments' plots and tables share: means with their intervals, lines, a grid."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest
from scipy.stats import t as student

from train.experiments.results import Row

# Okabe and Ito's: the colour-blind can tell them apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


class Summary(NamedTuple):
    """A mean with the ends of its 95 % interval; those are NaN where there is one value alone."""

    mean: float
    low: float = math.nan
    high: float = math.nan

    @staticmethod
    def around(mean: float, half: float) -> "Summary":
        """mean ± half."""
        return Summary(mean, mean - half, mean + half)

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        digits = 3 if abs(self.mean) < 10 else 2
        mean, low, high = (f"{v:.{digits}f}".replace("-", "−") for v in self)
        if math.isnan(self.low):
            return mean
        half = (self.high - self.low) / 2
        if math.isclose(self.low + half, self.mean, abs_tol=1e-9):
            return f"{mean} ± {half:.{digits}f}"
        return f"{mean} ({low}–{high})"


def summary(rows: Iterable[Row], column: str, **key: Any) -> Summary:
    """The mean of a column over the rows with this key, and its interval by Student's t."""
    values = [float(row[column]) for row in rows if all(row.get(k) == v for k, v in key.items())]
    n = len(values)
    if n < 2:
        return Summary(values[0] if values else math.nan)
    half = student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    return Summary.around(float(np.mean(values)), float(half))


def difference(rows: Iterable[Row], column: str, key: Row, base: Row) -> Summary:
    """Mean of a column at `key` less that at `base`, seed by seed: they share their noise."""
    rows = list(rows)

    def by_seed(wanted: Row) -> dict[Any, float]:
        found = (row for row in rows if all(row[k] == v for k, v in wanted.items()))
        return {row["seed"]: float(row[column]) for row in found}

    here, there = by_seed(key), by_seed(base)
    return summary([{"d": here[seed] - there[seed]} for seed in here if seed in there], "d")


def proportion(count: int, n: int) -> Summary:
    """A share with Wilson's 95 % interval, which has a width also where the share is 0 or 1."""
    low, high = binomtest(count, n).proportion_ci(method="wilson")
    return Summary(count / n, float(low), float(high))


def line(
    ax: Axes, x: Iterable[float], values: Sequence[Summary], colour: str, label: str, **style: Any
) -> None:
    """A line through the means, with the intervals as a band."""
    x, mean = np.array(list(x), float), np.array([v.mean for v in values])
    low, high = ([v.mean if math.isnan(end) else end for v, end in zip(values, ends, strict=True)]
                 for ends in ([v.low for v in values], [v.high for v in values]))  # fmt: skip
    ax.plot(x, mean, color=colour, label=label, **{"marker": "o", "markersize": 3, **style})
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


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
