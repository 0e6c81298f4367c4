"""Grids of images with labelled rows, and the reverse process as a GIF."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ddpm import Step
from unet.files import replacing

DPI, CELL, GAP = 150, 63, 12  # pixels: about the size of an image, and between what is shown
FRAMES = 100  # of a GIF at most


class Panel(NamedTuple):
    """One block of a picture: rows of images under a title."""

    title: str
    rows: Sequence[str]  # R labels
    images: Tensor  # (R, n, C, H, W) in [-1, 1]


def save_panels(path: Path, panels: Sequence[Panel], caption: str = "") -> None:
    """Write the panels side by side as one PNG; values outside [-1, 1] are clipped.

    A pixel of an image is a square of whole pixels of the picture, one at least.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # no pyplot: it would keep global state and a display

    canvas = FigureCanvasAgg(Figure(dpi=DPI))
    figure = canvas.figure

    def text(words: str, size: int) -> tuple[Any, float, float]:
        found = figure.text(0, 0, words, fontsize=size, parse_math=False)
        box = found.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
        return found, box.width, box.height

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        below, titles = text(caption, 8), [text(panel.title, 10) for panel in panels]
        bottom = GAP + (round(below[2]) + GAP) * bool(caption)
        over = round(max(height for *_, height in titles)) + 2 * GAP
        pictures, places, x = [], [], GAP
        for panel, title in zip(panels, titles, strict=True):
            labels = [text(row, 9) for row in panel.rows]
            pictures.append(_enlarged(_grid(panel.images), round(CELL / panel.images.shape[-1])))
            x += round(max(width for _, width, _ in labels)) + GAP
            places.append((x, labels))
            x += max(pictures[-1].shape[1], round(title[1])) + GAP
        width = max(x, round(below[1]) + 2 * GAP)
        height = bottom + max(map(len, pictures)) + over
        figure.set_size_inches((width + 0.01) / DPI, (height + 0.01) / DPI)  # rounded down

        def put(words: tuple[Any, float, float], x: float, y: float, **kwargs: str) -> None:
            words[0].set(x=x / width, y=y / height, **kwargs)

        put(below, width / 2, GAP, ha="center", va="bottom")
        for title, picture, (left, labels) in zip(titles, pictures, places, strict=True):
            put(title, left, height - GAP, ha="left", va="top")
            for k, label in enumerate(labels):
                middle = height - over - (k + 0.5) / len(labels) * len(picture)
                put(label, left - GAP / 2, middle, ha="right", va="center")
            figure.figimage(picture, left, height - over - len(picture))
        with replacing(path) as partial:
            figure.savefig(partial, dpi=DPI)


def frames(process: Iterable[Step], length: int, most: int = FRAMES) -> Iterator[Step]:
    """Of a process of so many updates at most so many states, the last among them, on the CPU."""
    every = -(-length // most)
    for k, step in enumerate(process):
        if (length - 1 - k) % every == 0:
            yield step._replace(x=step.x.cpu(), x_0=step.x_0.cpu(), eps=step.eps.new_empty(0))


def save_gif(path: Path, steps: Sequence[Step], rows: int, milliseconds: int = 80) -> None:
    """Write the reverse process: x on the left, the predicted x̂_0 on the right; the end stays."""
    from PIL import Image

    images = []
    for step in frames(steps, len(steps)):
        halves = [rearrange(x, "(r n) c h w -> r n c h w", r=rows) for x in (step.x, step.x_0)]
        gap = torch.ones(halves[0].shape[0], 1, *halves[0].shape[2:])
        picture = _grid(torch.cat([halves[0], gap, halves[1]], dim=1))
        image = Image.fromarray(_enlarged(picture, 160 // len(picture)))
        images.append(image.convert("L") if step.x.shape[1] == 1 else image)
    durations = [milliseconds] * (len(images) - 1) + [2000]
    with replacing(path) as partial:
        images[0].save(partial, save_all=True, append_images=images[1:], duration=durations, loop=0)


def join(processes: Sequence[Sequence[Step]]) -> list[Step]:
    """One process with all in its batch, from several that visit the same t."""
    return [
        parts[0]._replace(x=torch.cat([p.x for p in parts]), x_0=torch.cat([p.x_0 for p in parts]))
        for parts in zip(*processes, strict=True)
    ]


def as_bytes(images: Tensor) -> Tensor:
    """(..., C, H, W) in [-1, 1], what lies outside clipped -> (..., H, W, C), uint8, on the CPU."""
    values = (images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5
    return values.round().to(torch.uint8).movedim(-3, -1)


def _grid(images: Tensor) -> np.ndarray:
    """(R, n, C, H, W) in [-1, 1] -> (height, width, 3), uint8, one pixel of white between."""
    from torchvision.utils import make_grid  # three seconds, which --help can do without

    flat = rearrange(as_bytes(images), "r n h w c -> (r n) c h w")
    grid = make_grid(flat, nrow=images.shape[1], padding=1, pad_value=255)
    picture: np.ndarray = rearrange(grid, "c h w -> h w c").numpy()
    return picture


def _enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    """Every pixel as a square of so many, one at least."""
    return picture.repeat(max(1, times), axis=0).repeat(max(1, times), axis=1)
