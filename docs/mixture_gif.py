"""Draw docs/mixture-guidance.gif, in a quarter of a minute: four guidances where ε* is exact.

    python docs/mixture_gif.py

Four hills in the plane. p₊ is true of the two upper ones, p₋ of the two on the right: of what is
asked for, half is not wanted. All runs start from the same noise. The constant w of the negative
prompt pushes what stays beyond its hill; λ = p/(1 − p) ends where it should.
"""

import io
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ddpm import GaussianMixture, Predictor, cosine_schedule, ddim
from guidance import classifier_free_guidance, negative_guidance, posterior_negative_guidance
from guidance.app.colours import MINUS, PLUS

W, STEPS, N, T = 1.0, 30, 250, 1000
POSITIVE, NEGATIVE, NULL = 0, 1, 2
EDGE = 2.9  # of the picture, in units of x
COLOURS = (MINUS, PLUS)  # judged p₋, or not

schedule = cosine_schedule(T)
world = GaussianMixture(
    mean=torch.tensor([[-1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]),
    covariance=torch.full((4,), 0.06),
    concepts=torch.tensor([[True, True, False, False], [False, True, True, False]]),
)
eps = world.eps(schedule)
GUIDANCES: dict[str, Predictor] = {
    "ε(p₊)": classifier_free_guidance(eps, POSITIVE, 0.0, null=NULL),
    "classifier-free: (1+w)·ε(p₊) − w·ε(∅)": classifier_free_guidance(eps, POSITIVE, W, null=NULL),
    "negative: (1+w)·ε(p₊) − w·ε(p₋)": negative_guidance(eps, POSITIVE, NEGATIVE, W, null=NULL),
    "ε(p₊) − λ·[ε(p₋) − ε(∅)], λ = p/(1−p)": posterior_negative_guidance(
        eps, lambda x_t, t: world.log_posterior(schedule, x_t, t)[:, NEGATIVE], NEGATIVE,
        positive=POSITIVE, null=NULL,
    ),
}  # fmt: skip


def states(predictor: Predictor, x_T: Tensor) -> list[tuple[int, Tensor]]:
    """(t, x_t) from T down to 0."""
    steps = list(ddim(schedule, predictor, x_T, STEPS, clip=None))
    return [(step.t, x) for step, x in zip(steps, [x_T, *(s.x for s in steps)], strict=False)] + [
        (0, steps[-1].x)
    ]


def density(t: int) -> Tensor:
    """p_t on a grid, all hills together."""
    line = torch.linspace(-EDGE, EDGE, 80)
    grid = torch.cartesian_prod(line, line).flip(1)
    return world.log_prob(schedule, grid, torch.full((len(grid),), t)).exp().view(80, 80)


def frame(at: list[tuple[str, int, Tensor, Tensor]]) -> Image.Image:
    """One moment of all runs."""
    figure = Figure(figsize=(9.6, 2.65), dpi=85, layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(at)))
    for ax, (title, t, x, unwanted) in zip(axes, at, strict=True):
        ax.contour(density(t), extent=(-EDGE, EDGE, -EDGE, EDGE), colors="0.55", linewidths=0.7)
        for colour, of in zip(COLOURS, (unwanted, ~unwanted), strict=True):
            ax.plot(*x[of].T, ".", color=colour, markersize=3, alpha=0.7)
        ax.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), xticks=[], yticks=[], aspect="equal")
        ax.set_title(title, fontsize=8)
    axes[0].text(-EDGE + 0.1, -EDGE + 0.12, f"t = {at[0][1]}", fontsize=9)
    axes[1].text(-EDGE + 0.1, EDGE - 0.3, "p₊", fontsize=9)
    axes[1].text(EDGE - 0.1, EDGE - 0.3, "p₊ and p₋", fontsize=9, ha="right")
    axes[1].text(EDGE - 0.1, -EDGE + 0.12, "p₋", fontsize=9, ha="right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return Image.open(picture).convert("RGB")


def main() -> None:
    """Sample, draw, write."""
    x_T = torch.randn(N, 2, generator=torch.Generator().manual_seed(0))
    runs = {title: states(predictor, x_T) for title, predictor in GUIDANCES.items()}
    unwanted = {
        title: world.log_posterior(schedule, x[-1][1], torch.zeros(N, dtype=torch.int64))[
            :, NEGATIVE
        ].exp() > 0.5
        for title, x in runs.items()
    }  # fmt: skip
    for title, of in unwanted.items():
        print(f"{title}: {100 * float(of.double().mean()):.1f} % are p₋")
    frames = [
        frame([(title, *runs[title][k], unwanted[title]) for title in runs])
        for k in range(STEPS + 1)
    ]
    palette = frames[STEPS // 2].quantize(16)
    first, *rest = (f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    first.save(
        Path(__file__).with_name("mixture-guidance.gif"),
        save_all=True, append_images=rest, loop=0, optimize=True,
        duration=[300, *[80] * (STEPS - 1), 2500],
    )  # fmt: skip


if __name__ == "__main__":
    main()
