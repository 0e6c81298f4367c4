"""The one style of the experiments' plots: a grid of panels, lines with bands."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def grid(panels: int, columns: int, size: tuple[float, float] = (3.1, 2.5)) -> tuple[Figure, Any]:
    """A figure, and its axes as a flat list; those without a panel are hidden."""
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), dpi=110, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(10)
    for ax in axes[panels:]:
        ax.set_visible(False)
    return figure, axes[:panels]


def line(
    ax: Axes, values: pd.DataFrame, colour: str, label: str, x: Any = None,
    **style: Any,
) -> None:  # fmt: skip
    """A line through the means over the index, or over x, with the intervals as a band."""
    x = values.index if x is None else x
    ax.plot(
        x, values["mean"], color=colour, label=label, **{"marker": "o", "markersize": 3, **style}
    )
    ax.fill_between(x, values["low"], values["high"], color=colour, alpha=0.2, linewidth=0)


def real_line(ax: Axes, rows: pd.DataFrame, column: str) -> bool:
    """What as many real images get, if the column has such a companion."""
    if f"{column}_real" not in rows:
        return False
    mean = rows[f"{column}_real"].mean()
    ax.axhline(mean, color="0.4", linestyle="--", label="as many real images")
    return True
