"""How the notebooks look: one colour for each class, grids of images, maps of the plane.

Plotting only. The diffusion mathematics is in `ddpm/` and `guidance/`.
"""

from collections.abc import Callable, Sequence
from dis import get_instructions
from functools import wraps
from inspect import signature
from pathlib import Path
from types import CodeType
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MultipleLocator
from torch import Tensor

from guidance.app.colours import ACCENT, CLASS, NULL, SIGNED  # noqa: F401 (two are handed on)

ROOT = Path(__file__).resolve().parents[1]

plt.rcParams |= {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=CLASS),
    "legend.frameon": False,
    "legend.fontsize": 8,
    "image.cmap": "gray",
}


KEPT: dict[Any, Any] = {}


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of the cell's own, so that the cell makes the same whenever it runs."""
    return torch.Generator().manual_seed(seed)


def kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose answers are kept while the kernel lives, also when its cell runs again.

    They are asked for anew if its code, its arguments or a global that it reads are others.
    """

    def names(code: CodeType) -> set[str]:
        inner = (const for const in code.co_consts if isinstance(const, CodeType))
        loads = (i for i in get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
        return {load.argval for load in loads}.union(*map(names, inner))

    @wraps(make)
    def answer(*args: Any, **kwargs: Any) -> Any:
        given = signature(make).bind(*args, **kwargs)
        given.apply_defaults()  # which belong to the function, and not to its code
        of = given.args, tuple(sorted(given.kwargs.items()))
        reads = {name: make.__globals__.get(name) for name in sorted(names(make.__code__))}
        key = (make.__code__, of, tuple(map(id, reads.values())))
        if key not in KEPT:
            KEPT[key] = make(*args, **kwargs), reads  # held, so that no id is given away again
        return KEPT[key][0]

    return answer


def panels(n: int, width: float = 2.1, height: float = 2.1, **kwargs: Any) -> list[Axes]:
    """n axes in a row."""
    _, axes = plt.subplots(1, n, figsize=(width * n, height), squeeze=False, **kwargs)
    return list(axes[0])


def image_grid(
    images: Tensor,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    title: str = "",
    ax: Axes | None = None,
    cell: float = 0.55,
    signed: bool = False,
    smooth: bool = False,
) -> Axes:
    """Images (R, n, C, H, W) in [-1, 1] as a table with labelled rows and columns.

    signed: blue below 0, orange above, each row on a scale of its own.
    smooth: four times as many pixels, by a cubic curve, so that the eye can read small digits.
    """
    if smooth:
        large = F.interpolate(images.flatten(0, 1).float(), scale_factor=4, mode="bicubic")
        images = large.unflatten(0, images.shape[:2]).clamp(-1, 1)
    R, n, _, H, W = images.shape
    x = images.detach().float().cpu()
    scale = x.abs().amax((1, 2, 3, 4), keepdim=True).clamp(min=1e-12) if signed else 1.0
    x = (x / scale).clamp(-1, 1).mean(2)  # (R, n, H, W)
    gap = 1 if H < 16 else 2
    sheet = torch.full((R * (H + gap) - gap, n * (W + gap) - gap), torch.nan)
    for r in range(R):
        for k in range(n):
            top, left = r * (H + gap), k * (W + gap)
            sheet[top : top + H, left : left + W] = x[r, k]
    if ax is None:
        size = (cell * n + 0.09 * max(map(len, rows), default=0) + 0.2, cell * R + 0.45)
        ax = plt.subplots(figsize=size)[1]
    cmap = LinearSegmentedColormap.from_list("signed", SIGNED) if signed else "gray"
    ax.imshow(sheet.numpy(), cmap=cmap, vmin=-1, vmax=1, interpolation="nearest")
    ax.set_yticks([r * (H + gap) + H / 2 - 0.5 for r in range(len(rows))], rows)
    ax.set_xticks([k * (W + gap) + W / 2 - 0.5 for k in range(len(columns))], columns)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    return ax


def grid(limit: float = 2.5, n: int = 80) -> Tensor:
    """n·n points of the square [-limit, limit]², (n·n, 2)."""
    line = torch.linspace(-limit, limit, n, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def contours(
    ax: Axes, points: Tensor, density: Tensor, colour: str, levels: Sequence[float] = (0.1, 0.5)
) -> None:
    """Lines at these shares of the density's maximum; points from `grid`."""
    n = round(len(points) ** 0.5)
    x, y, p = (v.view(n, n).numpy() for v in (points[:, 0], points[:, 1], density))
    ax.contour(x, y, p, [level * p.max() for level in levels], colors=colour, linewidths=0.9)


def class_lines(
    ax: Axes,
    points: Tensor,
    mixture: Any,
    schedule: Any,
    t: int,
    levels: Sequence[float] = (0.1, 0.5),
) -> None:
    """Contours of p_t(x_t|k) for each class k of a mixture, in the colour of the class."""
    t_b = torch.full((len(points),), t)
    for k in range(mixture.classes):
        log_p = mixture.log_prob(schedule, points, t_b, torch.full_like(t_b, k))
        contours(ax, points, log_p.exp(), CLASS[k], levels)


def arrows(ax: Axes, points: Tensor, field: Tensor, colour: str, **kwargs: Any) -> Any:
    """A vector field (n, 2) at points (n, 2), in units of the axes unless scale says otherwise."""
    options = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.006} | kwargs
    xy, uv = points.numpy().T, field.numpy().T
    return ax.quiver(*xy, *uv, color=colour, **options)


def plane(ax: Axes, limit: float = 2.5, title: str = "") -> Axes:
    """The square [-limit, limit]², its axes x¹ and x² in the units of the data."""
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    ax.set(xlabel="$x^1$ (data units)", ylabel="$x^2$ (data units)")
    for axis in (ax.xaxis, ax.yaxis):  # alike, in however little room
        axis.set_major_locator(MultipleLocator(2))
    return ax
