"""The pictures that a run leaves behind: loss, samples, the reverse process, every guidance."""

import json
from collections import defaultdict
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ddpm import Schedule, ddim, q_sample, timesteps
from guidance import (
    class_log_prob,
    classifier_free_guidance,
    classifier_guidance,
    negative_guidance,
)
from guidance.command import replacing
from guidance.models import Models
from guidance.pictures import Panel, save_gif, save_panels
from guidance.sampling import Request, Sampler, draw
from train.data import Dataset
from unet import NoisyClassifier


def samples(path: Path, models: Models, ws: tuple[float, ...], n: int, steps: int) -> None:
    """Rows are classes; one block of n columns for each w, from the same noise."""
    K = models.unet.null_token
    blocks = []
    c = torch.arange(K).repeat_interleave(n)
    for w in ws:
        x = draw(models, Request("classifier-free", 0, w=w), Sampler(steps=steps), c, seed=0)
        blocks.append(Panel(f"w = {w:g}", models.classes, x.unflatten(0, (K, n))))
    save_panels(path, blocks, f"classifier-free guidance, DDIM, {steps} steps")


def reverse_process(path: Path, models: Models, w: float, n: int, steps: int) -> None:
    """A GIF: x_t on the left, x̂_0 on the right; n images of each of the first four classes."""
    rows = min(4, models.unet.null_token)
    c = torch.arange(rows).repeat_interleave(n)
    predictor = classifier_free_guidance(models.unet, c, w, null=models.unet.null_token)
    x_T = models.noise(len(c), torch.Generator().manual_seed(0))
    save_gif(path, list(ddim(models.schedule, predictor, x_T, steps)), rows)


def loss_curves(path: Path, log: Path) -> None:
    """The losses of log.jsonl over the steps, one plot for each phase."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        if "loss" in entry:
            curves[entry["phase"]][entry["step"]] = entry["loss"]
    labels = {
        "unet": "$L_{simple}$ (per pixel)",
        "classifier": "cross-entropy of $p_\\phi$ (nats)",
        "judge": "cross-entropy of the judge (nats)",
    }
    figure = Figure(figsize=(4.2 * max(1, len(curves)), 3), dpi=130, layout="constrained")
    axes = figure.subplots(1, max(1, len(curves)), squeeze=False)[0]
    for ax, (phase, values) in zip(axes, curves.items(), strict=False):
        ax.plot(list(values), list(values.values()), lw=1.2)
        scale = "log" if phase == "unet" else "linear"
        ax.set(xlabel="training step", ylabel=labels.get(phase, phase), yscale=scale)
        ax.grid(alpha=0.3, which="both")
    with replacing(path) as partial:
        figure.savefig(partial)


@torch.no_grad()
def classifier_accuracy(
    classifier: NoisyClassifier, schedule: Schedule, data: Dataset, n: int = 500
) -> dict[int, float]:
    """Accuracy of p_φ(y|x_t, t) on held-out images at 21 values of t from 0 to T."""
    x_0, y = data.scale(data.test_images[:n]), data.test_labels[:n]
    generator = torch.Generator(x_0.device).manual_seed(0)
    accuracy = {}
    for level in [0, *timesteps(schedule.T, min(20, schedule.T))[::-1]]:
        t = torch.full_like(y, level)
        noise = torch.randn(x_0.shape, generator=generator, device=x_0.device)
        x_t = q_sample(schedule, x_0, t, noise)
        logits = torch.cat(
            [classifier(*part) for part in zip(x_t.split(100), t.split(100), strict=True)]
        )
        accuracy[level] = float((logits.argmax(1) == y).float().mean())
    return accuracy


def accuracy_over_t(path: Path, accuracy: dict[int, float], K: int) -> None:
    """The noisy classifier's accuracy over t, beside chance."""
    figure = Figure(figsize=(4.2, 3), dpi=130, layout="constrained")
    ax = figure.subplots()
    ax.plot(list(accuracy), list(accuracy.values()), "o-", ms=3, label="$p_\\phi(y|x_t, t)$")
    ax.axhline(1 / K, color="grey", ls=":", label="chance")
    ax.set(xlabel="$t$", ylabel="accuracy on held-out images", ylim=(0, 1.02))
    ax.grid(alpha=0.3)
    ax.legend()
    with replacing(path) as partial:
        figure.savefig(partial)


def every_guidance(path: Path, models: Models, steps: int, n: int = 6, removed: int = 3) -> None:
    """None, classifier, classifier-free, and the removal of a class by several start steps.

    Columns share their noise. On the right it is chosen: the n of 30·n draws whose plain
    unconditional samples p_φ is surest to be of the class that the negative then removes.
    """
    unet, classifier, schedule = models.unet, models.classifier, models.schedule
    assert classifier is not None
    K = unet.null_token
    c = torch.arange(K).repeat_interleave(n)
    generator = torch.Generator().manual_seed(0)
    x_T = models.noise(n, generator).repeat(K, 1, 1, 1)

    def final(predictor: object, x: Tensor) -> Tensor:
        *_, last = ddim(schedule, predictor, x, steps)  # type: ignore[arg-type]
        return last.x

    panels = []
    for title, predictor in {
        "none: ε(c)": lambda x, t: unet(x, t, c.to(x.device)),
        "classifier on ε(∅), s = 3": classifier_guidance(
            unet, class_log_prob(classifier, c), 3.0, schedule
        ),
        "classifier-free, w = 2": classifier_free_guidance(unet, c, 2.0, null=K),
    }.items():
        x = final(predictor, x_T)
        panels.append(Panel(title, models.classes, x.unflatten(0, (K, n))))

    noise = models.noise(30 * n, generator)
    plain = final(unet, noise)
    zero = torch.zeros(len(plain), dtype=torch.int64, device=plain.device)
    with torch.no_grad():
        sure = classifier(plain, zero).log_softmax(1)[:, removed]
    chosen = noise[sure.topk(n).indices]
    start_steps = [steps, *(round(0.8 * steps * k / (K - 2)) for k in range(K - 2, -1, -1))]
    visited = [*timesteps(schedule.T, steps), 0]
    start = torch.tensor([visited[k] for k in start_steps]).repeat_interleave(len(chosen))
    predictor = negative_guidance(unet, K, removed, 2.0, null=K, start=start)
    x = final(predictor, chosen.repeat(len(start_steps), 1, 1, 1))
    rows = [f"step {k}" if k < steps else "never" for k in start_steps]
    title = f"−{models.classes[removed]} from ∅, w = 2"
    panels.append(Panel(title, rows, x.unflatten(0, (len(start_steps), -1))))
    save_panels(
        path,
        panels,
        f"DDIM, {steps} steps; columns share their noise. Right: rows are the step from which the "
        f"negative class acts; noise chosen, the {n} of {30 * n} that p_φ is surest end as a "
        f"{models.classes[removed]}",
    )


@torch.no_grad()
def progress(path: Path, models: Models, steps: int) -> None:
    """A grid of samples while training goes on: eight of each class at w = 1."""
    mode = models.unet.training
    models.unet.eval()
    c = torch.arange(models.unet.null_token).repeat_interleave(8)
    x = draw(models, Request("classifier-free", 0, w=1.0), Sampler(steps=steps), c, seed=0)
    save_panels(path, [Panel("w = 1", models.classes, x.unflatten(0, (-1, 8)))])
    models.unet.train(mode)
