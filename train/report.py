"""The pictures that a run leaves behind: loss, samples, the reverse process, every guidance."""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ddpm import Schedule, ddim, q_sample, timesteps
from guidance.app import guides
from guidance.app.colours import NULL
from guidance.app.draw import draw, final
from guidance.app.guides import Guide
from guidance.app.models import Models
from guidance.app.pictures import Panel, save_gif, save_panels
from train.data import Dataset
from train.judge import held_true
from unet import NoisyClassifier
from unet.files import replacing

ROWS = 12  # of a picture at most: of more classes the first twelve are shown


def samples(path: Path, models: Models, ws: tuple[float, ...], n: int, steps: int) -> None:
    """Rows are classes; one block of n columns for each w, from the same noise."""
    blocks = [_block(models, w, n, steps) for w in ws]
    save_panels(path, blocks, f"classifier-free guidance, DDIM, {steps} steps")


def progress(path: Path, models: Models, steps: int) -> None:
    """A grid of samples while training goes on: eight of each class at w = 1."""
    save_panels(path, [_block(models, 1.0, 8, steps)])


def _block(models: Models, w: float, n: int, steps: int) -> Panel:
    names, sampler = models.classes[:ROWS], partial(ddim, steps=steps)
    c = torch.arange(len(names)).repeat_interleave(n)
    x = draw(models, guides.classifier_free(w), c, seed=0, sampler=sampler)
    return Panel(f"w = {w:g}", names, rearrange(x, "(r n) ... -> r n ...", n=n))


def reverse_process(path: Path, models: Models, w: float, n: int, steps: int) -> None:
    """A GIF: x_t on the left, x̂_0 on the right; n images of each of the first four classes."""
    rows = min(4, models.K)
    c = torch.arange(rows).repeat_interleave(n)
    x_T = models.noise(len(c), torch.Generator().manual_seed(0))
    eps = guides.classifier_free(w)(models, c.to(x_T.device))
    save_gif(path, list(ddim(models.schedule, eps, x_T, steps)), rows)


def every_guidance(path: Path, models: Models, steps: int, n: int = 6, removed: int = 3) -> None:
    """None, classifier, classifier-free, and the removal of a class by several start steps.

    Columns share their noise. On the right it is chosen: the n of 30·n draws whose plain
    unconditional samples p_φ is surest to be of the class that the negative then removes.
    """
    schedule, names = models.schedule, models.classes[:ROWS]
    removed = min(removed, models.K - 1)
    generator = torch.Generator().manual_seed(0)
    x_T = models.noise(n, generator)

    def panel(title: str, rows: list[str], guide: Guide, c: Tensor, x_T: Tensor) -> Panel:
        x_T = x_T.repeat(len(rows), 1, 1, 1)
        x = final(ddim(schedule, guide(models, c.to(x_T.device)), x_T, steps))
        return Panel(title, rows, rearrange(x, "(r n) ... -> r n ...", n=n))

    titles = {
        "none: ε(c)": guides.none(),
        "classifier on ε(∅), s = 3": guides.classifier(3.0),
        "classifier-free, w = 2": guides.classifier_free(2.0),
    }
    c = torch.arange(len(names)).repeat_interleave(n)
    panels = [panel(title, names, guide, c, x_T) for title, guide in titles.items()]

    noise = models.noise(30 * n, generator)
    plain = final(ddim(schedule, models.unet, noise, steps))
    with torch.no_grad():
        sure = models.log_prob(removed)(plain, torch.zeros(len(plain)).long().to(plain.device))
    start_steps = [steps, *(round(0.8 * steps * k / 8) for k in range(8, -1, -1))]
    visited = [*timesteps(schedule.T, steps), 0]
    start = torch.tensor([visited[k] for k in start_steps]).repeat_interleave(n)
    guide, null = guides.negative(removed, 2.0, start=start), torch.full_like(start, models.K)
    rows = [f"step {k}" if k < steps else "never" for k in start_steps]
    name = models.classes[removed]
    panels.append(panel(f"−{name} from ∅, w = 2", rows, guide, null, noise[sure.topk(n).indices]))
    caption = (
        f"DDIM, {steps} steps; columns share their noise. Right: rows are the step from which the "
        f"negative class acts; noise chosen, the {n} of {30 * n} that p_φ is surest end as a {name}"
    )
    save_panels(path, panels, caption)


def loss_curves(path: Path, log: Path) -> None:
    """The losses of log.jsonl over the steps, one plot for each phase."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "loss" in entry:
            curves[entry["phase"]][entry["step"]] = entry["loss"]
    labels = {
        "unet": "$L_{simple}$ (per pixel)",
        "classifier": "cross-entropy of $p_\\phi$ (nats)",
        "judge": "cross-entropy of the judge (nats)",
    }
    with _axes(path, max(1, len(curves))) as axes:
        for ax, (phase, values) in zip(axes, curves.items(), strict=False):
            ax.plot(list(values), list(values.values()), color=NULL, lw=1.2)
            scale = "log" if phase == "unet" else "linear"
            ax.set(xlabel="training step", ylabel=labels.get(phase, phase), yscale=scale)
            ax.grid(alpha=0.3, which="both")


@torch.no_grad()
def classifier_accuracy(
    classifier: NoisyClassifier, schedule: Schedule, data: Dataset, n: int = 500
) -> dict[int, float]:
    """Accuracy of p_φ(y|x_t, t) on held-out images at 21 values of t from 0 to T."""
    x_0, y = data.scale(data.test_images[:n]), data.test_labels[:n]
    c = F.one_hot(y, len(data.classes)).bool() if data.exclusive else y  # (n, K)
    generator = torch.Generator(x_0.device).manual_seed(0)
    accuracy = {}
    for level in [0, *timesteps(schedule.T, min(20, schedule.T))[::-1]]:
        t = torch.full((len(y),), level, device=y.device)
        noise = torch.randn(x_0.shape, generator=generator, device=x_0.device)
        x_t = q_sample(schedule, x_0, t, noise)
        batches = zip(torch.split(x_t, 100), torch.split(t, 100), strict=True)
        logits = torch.cat([classifier(*batch) for batch in batches])
        true = held_true(logits, exclusive=data.exclusive)
        right = true[c] if data.exclusive else true == c
        accuracy[level] = float(right.float().mean())
    return accuracy


def chance(data: Dataset) -> float:
    """The accuracy of whoever has not looked: 1/K, or of concepts what is true more often."""
    if data.exclusive:
        return 1 / len(data.classes)
    share = data.labels.float().mean(0)  # (K,)
    return float(torch.maximum(share, 1 - share).mean())


def accuracy_over_t(path: Path, accuracy: dict[int, float], chance: float) -> None:
    """The noisy classifier's accuracy over t, beside chance."""
    with _axes(path, 1) as (ax,):
        ax.plot(list(accuracy), list(accuracy.values()), "o-", ms=3, color=NULL,
                label="$p_\\phi(y|x_t, t)$")  # fmt: skip
        ax.axhline(chance, color="grey", ls=":", label="chance")
        ax.set(xlabel="$t$", ylabel="accuracy on held-out images", ylim=(0, 1.02))
        ax.grid(alpha=0.3)
        ax.legend()


@contextmanager
def _axes(path: Path, n: int) -> Iterator[Any]:
    """n plots beside each other, which are written when they are drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * n, 3), dpi=130, layout="constrained")
    yield figure.subplots(1, n, squeeze=False)[0]
    with replacing(path) as partial_path:
        figure.savefig(partial_path)
