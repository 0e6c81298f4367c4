"""The playground: one sentence for the exact mixture and for the networks, and its sliders."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from style import CLASS, NULL, ROOT, class_lines, grid, image_grid, panels, plane, seeded
from torch import Tensor

from ddpm import GaussianMixture, Schedule, ancestral, ddim, linear_schedule
from guidance import class_log_prob, classifier_guidance, negative_guidance
from guidance import posterior_negative_guidance as without
from guidance.app.draw import window
from guidance.app.models import load_models
from unet.device import choose_device

EQ_5, DNG, ADM = "negative prompt", "λ = w·p/(1−p)", "classifier, s = w"
COLOURS = {"blue": 0, "orange": 1, "red": 2, "∅": 3}
TRIANGLE = GaussianMixture(
    torch.tensor([[-1.2, -0.7], [1.2, -0.7], [0.0, 1.4]], dtype=torch.float64),
    torch.full((3,), 0.1, dtype=torch.float64),
)
LIMIT = 4.5  # of the plane that is shown


class World(NamedTuple):
    """What a sentence needs: a predictor, a classifier of each class, names, noise."""

    eps: Callable[..., Tensor]
    log_prob: Callable[[int], Any]
    schedule: Schedule
    names: dict[str, int]
    noise: Callable[[int, torch.Generator], Tensor]
    clip: tuple[float, float] | None


@lru_cache
def world(name: str) -> World:
    """The exact mixture of notebook 1, or the networks of weights/NAME."""
    if name == "mixture":
        schedule = linear_schedule()
        log_posterior = lambda x, t: TRIANGLE.log_posterior(schedule, x, t)  # noqa: E731
        noise = lambda n, g: torch.randn(n, 2, generator=g, dtype=torch.float64)  # noqa: E731
        log_prob = lambda k: class_log_prob(log_posterior, k)  # noqa: E731
        return World(TRIANGLE.eps(schedule), log_prob, schedule, COLOURS, noise, None)
    models = load_models(ROOT / "weights" / name, classifier=True, device=choose_device("auto"))
    names = {label: k for k, label in enumerate(models.classes)} | {"∅": models.K}
    return World(models.unet, models.log_prob, models.schedule, names, models.noise, (-1, 1))


@lru_cache(maxsize=64)
def run(
    name: str, how: str, positive: str, negative: str, w: float,
    steps: tuple[int, int], sampling: tuple[str, int, int, int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Every state x_t, (S + 1, n, …), and every x̂_0, (S, n, …). The last 64 runs are kept.

    steps: the first and the stop of the negative; sampling: the sampler, S, seed and n.
    """
    here, (sampler, S, seed, n) = world(name), sampling
    null, p, m = here.names["∅"], here.names[positive], here.names[negative]
    if how == EQ_5:
        start, stop = window(here.schedule.T, S, *steps)
        eps = negative_guidance(here.eps, p, m, w, null=null, start=start, stop=stop)
    elif how == DNG:
        eps = without(here.eps, here.log_prob(m), m, null=null, positive=p, scale=w)
    else:
        free = lambda x, t: here.eps(x, t, torch.full_like(t, null))  # noqa: E731
        eps = classifier_guidance(free, here.log_prob(p), w, here.schedule)
    generator = seeded(seed)
    x_T = here.noise(n, generator)
    noisy = {"variance": "posterior", "generator": generator}
    make, options = (ddim, {}) if sampler == "ddim" else (ancestral, noisy)
    found = list(make(here.schedule, eps, x_T, S, clip=here.clip, **options))
    return torch.stack([x_T, *(s.x for s in found)]), torch.stack([s.x_0 for s in found])


def impossible(name: str, how: str, positive: str, negative: str) -> str:
    """Why there is no such picture, or nothing."""
    missing = {positive, negative} - set(world(name).names)
    if missing:
        return f"{name} knows no {' and no '.join(sorted(missing))}: choose other weights"
    if how == ADM and positive == "∅":
        return "a classifier needs a class to pull to: choose a positive"
    if how == DNG and negative == "∅":
        return "p/(1−p) needs a class to push away from: choose a negative"
    return ""


def pair(
    name: str, how: str, positive: str, negative: str, w: float,
    steps: tuple[int, int], sampling: tuple[str, int, int, int],
) -> list[tuple[Tensor, Tensor]]:  # fmt: skip
    """Runs without what the sliders say, and with it. Moving them, the first is kept.

    Without: guided to the positive alone, plain where the way of guiding has no such part.
    """
    S = sampling[1]
    first, stop = min(steps[0], S), min(max(steps), S)
    base = {EQ_5: (positive, w), DNG: (positive, 0.0), ADM: ("∅", 0.0)}[how]
    plain = run(name, EQ_5, base[0], "∅", base[1], (0, S), sampling)
    minus = "∅" if how == ADM else negative
    return [plain, run(name, how, positive, minus, w, (first, stop), sampling)]


def mixture(
    positive: str = "red", negative: str = "blue", how: str = EQ_5, w: float = 2.0,
    start_step: int = 0, stop_step: int = 50, sampler: str = "ddim", steps: int = 50,
    seed: int = 0, n: int = 200,
) -> None:  # fmt: skip
    """Where noises end on the exact mixture, without and with the negative; the way of 20."""
    if reason := impossible("mixture", how, positive, negative):
        return print(reason)
    sampling = (sampler, steps, seed, n)
    both = pair("mixture", how, positive, negative, w, (start_step, stop_step), sampling)
    axes = panels(3, 2.8, 2.8)
    for ax, title in zip(axes, ("without", "with", "the way there"), strict=True):
        class_lines(plane(ax, LIMIT, title), grid(LIMIT), TRIANGLE, world("mixture").schedule, 0)
    for ax, (states, _) in zip(axes, both, strict=False):
        ax.scatter(*states[-1].T, s=3, color=NULL, alpha=0.5)
    axes[2].plot(*both[1][0][:, :20].permute(2, 0, 1), color=CLASS[4], lw=0.5)
    plt.show()


def picture(
    positive: str = "3", negative: str = "ring", weights: str = "scenes", how: str = EQ_5,
    w: float = 2.0, start_step: int = 0, stop_step: int = 50, sampler: str = "ddim",
    steps: int = 20, seed: int = 0, n: int = 6, show: str = "pictures",
) -> None:  # fmt: skip
    """The same noise without and with the negative; their difference; or x_t and x̂_0 on the way.

    Steps beyond the last are the last.
    """
    if reason := impossible(weights, how, positive, negative):
        return print(reason)
    sampling = (sampler, steps, seed, n)
    both = pair(weights, how, positive, negative, w, (start_step, stop_step), sampling)
    if show == "trajectory":
        shown = [round(k) for k in torch.linspace(0, steps - 1, min(steps, 8)).tolist()]
        rows = [part[shown, 0] for states, x_0 in both for part in (states[1:], x_0)]
        labels = ["without: $x_t$", r"$\hat x_0$", "with: $x_t$", r"$\hat x_0$"]
        image_grid(torch.stack(rows), labels, [f"step {k}" for k in shown], cell=0.8)
        return plt.show()
    ends = torch.stack([states[-1] for states, _ in both])
    if show == "difference":
        size = (0.8 * n + 1.1, 3.1)  # so high that the width binds both, and columns align
        above, below = plt.subplots(2, 1, figsize=size, height_ratios=[2, 1])[1]
        image_grid(ends, ["without", "with"], ax=above)
        image_grid((ends[1] - ends[0])[None], ["difference"], ax=below, signed=True)
    else:
        image_grid(ends, ["without", "with"], cell=0.8)
    return plt.show()
