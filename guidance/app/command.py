"""What `python -m guidance` does once its flags are read: rows of samples, and their picture."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from tqdm import tqdm

from ddpm import Step
from guidance.app.draw import check_eta, processes
from guidance.app.memory import remembering
from guidance.app.models import Models, load_models, unfinished
from guidance.app.pictures import FRAMES, Panel, frames, join, save_gif, save_panels
from guidance.app.rows import Row, rows_of, title
from guidance.app.samples import check_free, names_of, save_samples
from unet.device import choose_device
from unet.files import vacant


def draw_rows(kind: str, flags: Any) -> int:
    """Sample row by row and write the picture. ValueError or OSError with one clear line."""
    if flags.out and Path(flags.out).suffix != ".png":
        raise ValueError(f"--out must end in .png, got {flags.out}")
    if getattr(flags, "mean_shift", False) and flags.sampler != "ancestral":
        raise ValueError(f"--mean-shift needs --sampler ancestral, got {flags.sampler}")
    check_eta(flags)
    if flags.save:
        check_free(Path(flags.save))
    begin = time.perf_counter()
    models = load_models(
        flags.weights, classifier=kind == "classifier", device=choose_device(flags.device)
    )
    if said := unfinished(models.info):
        print(said)
    if flags.steps > models.schedule.T:
        raise ValueError(f"--steps must lie in 1..{models.schedule.T} (T), got {flags.steps}")
    rows, caption = rows_of(kind, flags, models)
    models = models._replace(memory=remembering(models.unet) if len(rows) > 1 else None)
    steps = _draw(models, rows, flags)
    finals = rearrange(steps[-1].x, "(r n) c h w -> r n c h w", n=flags.n)
    labels = [row.label for row in rows]
    place = contextlib.nullcontext(Path(flags.out))
    with place if flags.out else vacant(Path(f"runs/guidance-{kind}.png")) as out:
        save_panels(out, [Panel(title(kind, flags), labels, finals)], caption)
    print(f"{out}: {len(rows)} rows of {flags.n} images in {time.perf_counter() - begin:.1f} s")
    if flags.gif:
        save_gif(out.with_suffix(".gif"), steps, len(rows))
        print(out.with_suffix(".gif"))
    if flags.save:
        names = [*models.classes, "∅"]
        positives = [row.positive for row in rows]
        c = torch.tensor(positives).repeat_interleave(flags.n)
        stems = names_of([names[k] for k in positives], flags.n)
        save_samples(Path(flags.save), steps[-1].x, c, stems)
        print(f"{Path(flags.save) / 'samples.npz'}, and each of its {len(c)} images as a PNG")
    return 0


def _draw(models: Models, rows: Sequence[Row], flags: Any) -> list[Step]:
    """The states to be shown, all rows in one batch: the last, and for --gif those before."""
    kept = FRAMES if flags.gif else 1
    labels = [torch.full((flags.n,), row.positive, device=models.device) for row in rows]
    for row, c in zip(rows, labels, strict=True):
        row.guide(models, c)  # or it refuses, before the first update
    updates = len(rows) * -(-flags.n // flags.batch_size) * flags.steps
    drawn = []
    with tqdm(total=updates, unit="update", leave=False, disable=None) as bar:
        for row, c in zip(rows, labels, strict=True):
            # the same x_T and the same noise for each row
            for process in processes(
                models, row.guide, c, flags.seed, row.sampler, flags.batch_size
            ):
                drawn.append(list(frames(_counted(process, bar), flags.steps, kept)))
    return join(drawn)


def _counted(process: Iterator[Step], bar: Any) -> Iterator[Step]:
    for step in process:
        bar.update()
        yield step
