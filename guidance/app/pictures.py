"""Grids of images with labelled rows, and the reverse process as a GIF."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torchvision.utils import make_grid

from ddpm import Step
from unet.files import replacing


class Panel(NamedTuple):
    """One block of a picture: rows of images under a title."""

    title: str
    rows: Sequence[str]  # R labels
    images: Tensor  # (R, n, C, H, W) in [-1, 1]


def save_panels(path: Path, panels: Sequence[Panel], caption: str = "") -> None:
    """Write the panels side by side as one PNG; values outside [-1, 1] are clipped."""
    from matplotlib.figure import Figure  # no pyplot: it would keep global state and a display

    cell = 0.42  # inches an image
    widths = [panel.images.shape[1] for panel in panels]
    rows = max(len(panel.rows) for panel in panels)
    labels = [0.12 * max(map(len, panel.rows)) + 0.1 for panel in panels]
    width = cell * sum(widths) + sum(labels) + 0.3 * len(panels)
    width = max(width, 0.062 * len(caption) + 0.3)  # room for the caption
    height = cell * rows + 0.45 + 0.3 * bool(caption)
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    ratios = [cell * w + label for w, label in zip(widths, labels, strict=True)]
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=ratios)[0]
    for ax, panel in zip(axes, panels, strict=True):
        size = panel.images.shape[-1] + 1
        ax.imshow(_grid(panel.images), interpolation="nearest")
        ax.set_title(panel.title, fontsize=10, parse_math=False)
        ax.set_xticks([])
        places = [(k + 0.5) * size for k in range(len(panel.rows))]
        ax.set_yticks(places, panel.rows, fontsize=9, parse_math=False)
        ax.tick_params(length=0)
        ax.set_anchor("N")
        for spine in ax.spines.values():
            spine.set_visible(False)
    if caption:
        figure.supxlabel(caption, fontsize=8, parse_math=False)
    with warnings.catch_warnings(), replacing(path) as partial:
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(partial)


def save_gif(path: Path, steps: Sequence[Step], rows: int, milliseconds: int = 80) -> None:
    """Write the reverse process: x on the left, the predicted x̂_0 on the right; the end stays."""
    from PIL import Image

    frames = []
    every = -(-len(steps) // 100)  # at most 100 frames, the last step among them
    for step in steps[(len(steps) - 1) % every :: every]:
        halves = [rearrange(x, "(r n) c h w -> r n c h w", r=rows) for x in (step.x, step.x_0)]
        gap = torch.ones(halves[0].shape[0], 1, *halves[0].shape[2:])
        picture = _grid(torch.cat([halves[0].cpu(), gap, halves[1].cpu()], dim=1))
        image = Image.fromarray((picture * 255).round().astype("uint8"))
        if step.x.shape[1] == 1:
            image = image.convert("L")
        scale = max(1, 160 // image.height)
        size = (image.width * scale, image.height * scale)
        frames.append(image.resize(size, Image.Resampling.NEAREST))
    durations = [milliseconds] * (len(frames) - 1) + [2000]
    with replacing(path) as partial:
        frames[0].save(partial, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def join_rows(processes: Sequence[Sequence[Step]]) -> list[Step]:
    """One process with all rows in its batch, from one process a row."""
    return [
        parts[0]._replace(x=torch.cat([p.x for p in parts]), x_0=torch.cat([p.x_0 for p in parts]))
        for parts in zip(*processes, strict=True)
    ]


def _grid(images: Tensor) -> np.ndarray:
    """(R, n, C, H, W) in [-1, 1] -> (height, width, 3) in [0, 1], one pixel of white between."""
    flat = rearrange(images.detach().float().cpu().clamp(-1, 1), "r n c h w -> (r n) c h w")
    grid = make_grid((flat + 1) / 2, nrow=images.shape[1], padding=1, pad_value=1.0)
    picture: np.ndarray = rearrange(grid, "c h w -> h w c").numpy()
    return picture
