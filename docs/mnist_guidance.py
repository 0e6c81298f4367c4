"""Draw docs/mnist-guidance.png from weights/mnist, in two or three minutes on a CPU.

    python docs/mnist_guidance.py

The noise is chosen, so that there is something to see. Left and middle: of 30 draws of each class
those that the judge is least sure of without guidance. Right: of 200 unconditional draws those that
are most surely of the class which is then removed.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ddpm import Predictor, Schedule, ddim, timesteps
from guidance import classifier_free_guidance, negative_guidance
from unet import load

ROOT = Path(__file__).parents[1]
CLASSES, REMOVED, W, STEPS, COLUMNS = (0, 2, 3, 5, 7, 8), 9, 2.0, 50, 5
STARTS = (STEPS, 35, 30, 25, 20, 0)  # of the negative class; STEPS is never

unet, info = load(ROOT / "weights/mnist/unet.safetensors")
judge, _ = load(ROOT / "weights/mnist/judge.safetensors")
schedule, null = Schedule.from_info(info["schedule"]), unet.null_token


def samples(eps: Predictor, x_T: Tensor) -> Tensor:
    """x_0 of DDIM, (B, 1, 28, 28)."""
    *_, last = ddim(schedule, eps, x_T, STEPS)
    return last.x


@torch.no_grad()
def log_p(x: Tensor, c: Tensor) -> Tensor:
    """log p(c|x) as the judge of clean images sees it, (B,)."""
    return judge(x).log_softmax(1).gather(1, c[:, None])[:, 0]


@torch.no_grad()
def read_as(x: Tensor, c: Tensor) -> Tensor:
    """Whether the judge takes x for c, (B,)."""
    return judge(x).argmax(1) == c


def panel(ax: Axes, title: str, labels: list[str], x: Tensor, framed: Tensor) -> None:
    """Rows of COLUMNS images, with a frame around some."""
    for k, (image, frame) in enumerate(zip(x, framed, strict=True)):
        row, column = divmod(k, COLUMNS)
        box = (column, column + 0.95, row + 0.95, row)
        ax.imshow(image[0], cmap="gray", vmin=-1, vmax=1, extent=box, interpolation="nearest")
        if frame:
            at = (column + 0.025, row + 0.025)
            ax.add_patch(Rectangle(at, 0.9, 0.9, fill=False, edgecolor="#ff4b00", linewidth=2.5))
    ax.set(xlim=(0, COLUMNS), ylim=(len(labels), 0), aspect="equal", xticks=[])
    ax.set_yticks([row + 0.47 for row in range(len(labels))], labels, fontsize=12)
    ax.set_title(title, fontsize=12)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def main() -> None:
    """Sample, choose, draw."""
    generator = torch.Generator().manual_seed(0)
    conditional, unconditional = (torch.randn(n, 1, 28, 28, generator=generator) for n in (30, 200))
    c = torch.tensor(CLASSES).repeat_interleave(len(conditional))
    x_T = conditional.repeat(len(CLASSES), 1, 1, 1)
    plain = samples(lambda x_t, t: unet(x_t, t, c), x_T)
    sure = log_p(plain, c).unflatten(0, (len(CLASSES), -1))  # (classes, draws)
    least = sure.topk(COLUMNS, largest=False).indices
    chosen = (least + len(conditional) * torch.arange(len(CLASSES))[:, None]).flatten()
    x_T, plain, c = x_T[chosen], plain[chosen], c[chosen]
    guided = samples(classifier_free_guidance(unet, c, W, null=null), x_T)

    n = torch.full((len(unconditional),), REMOVED)
    most = log_p(samples(unet, unconditional), n).topk(COLUMNS).indices
    visited = [*timesteps(schedule.T, STEPS), 0]
    start = torch.tensor([visited[k] for k in STARTS]).repeat_interleave(COLUMNS)
    pushed = samples(
        negative_guidance(unet, null, REMOVED, W, null=null, start=start),
        unconditional[most].repeat(len(STARTS), 1, 1, 1),
    )

    figure = Figure(figsize=(11, 4.4), dpi=120, layout="constrained")
    axes = figure.subplots(1, 3)
    names = [f"“{c}”" for c in CLASSES]
    panel(axes[0], "no guidance\nε(c)", names, plain, ~read_as(plain, c))
    title = f"classifier-free guidance, w = {W:g}\n(1+w)·ε(c) − w·ε(∅)"
    panel(axes[1], title, names, guided, ~read_as(guided, c))
    rows = ["never", *(f"from step {k}" for k in STARTS[1:])]
    title = f"negative class “{REMOVED}”, w = {W:g}\n(1+w)·ε(∅) − w·ε({REMOVED})"
    panel(axes[2], title, rows, pushed, read_as(pushed, n[0]))
    frame = (
        f"Framed: read as another digit than asked for; on the right, still read as a “{REMOVED}”."
    )
    figure.supxlabel(frame, fontsize=11)
    figure.savefig(ROOT / "docs/mnist-guidance.png")


if __name__ == "__main__":
    main()
