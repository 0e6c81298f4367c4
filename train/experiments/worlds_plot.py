"""The plot of the exact worlds."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpm import timesteps
from guidance.app.colours import ACCENT, CLASS, MINUS, NULL, PLUS
from train.experiments.exact import LARGE, SCHEDULE, SMALL, TWO_MODES, W, World, states
from train.experiments.plots import grid, line
from train.experiments.predicted import critical_log_snr, early_window, overlap_cosine
from train.experiments.worlds_table import CHANCE, pooled

WORLDS = {"p₋ the smaller": CLASS[0], "p₋ the larger": CLASS[2]}
PICTURE = -1.7  # the x_T whose paths are drawn


def plot(rows: pd.DataFrame) -> Figure:
    """One panel a claim and a half: pulls, late starts, the formula; overlap, windows, one path."""
    figure, axes = grid(6, 3, (4.2, 3.3))
    S = int(rows["steps"].iloc[0])
    alpha_bar = SCHEDULE.alpha_bar[timesteps(SCHEDULE.T, S)]
    log_snr = (alpha_bar / (1 - alpha_bar)).log().numpy()
    draws = (pulls, starts, formula, overlap, early, path)
    there = set(rows["group"])
    for ax, draw in zip(axes, draws, strict=True):
        draw(ax, rows, log_snr, there)
        if ax.get_legend_handles_labels()[0]:  # of part of a sweep a panel may be empty
            ax.legend(fontsize=6.5, loc="upper left" if draw is path else "best")
    return figure


def pulls(ax: Axes, rows: pd.DataFrame, _: Any, there: set[str]) -> None:
    """Who pulls when."""
    for group, colour in WORLDS.items():
        if group in there:
            for name, style in {"pull of p₊": "--", "pull of p₋": "-"}.items():
                line(ax, pooled(rows, group, name), colour, f"{name}; {group}", markersize=0,
                     linestyle=style)  # fmt: skip
    ax.set(title="delayed effect: the smaller acts later", xlabel="step")
    ax.set_ylabel(r"$\|\epsilon_\pm - \epsilon_\varnothing\|$")


def starts(ax: Axes, rows: pd.DataFrame, log_snr: Any, there: set[str]) -> None:
    """What late starts leave, and where the formula says that p₋ is decided."""
    sizes = {"p₋ the smaller": SMALL, "p₋ the larger": LARGE}
    for group, size in sizes.items():
        colour = WORLDS[group]
        if group in there:
            line(ax, pooled(rows, group, "left", "share"), colour, f"{group}, δ₋ = {size}")
        k = np.interp(critical_log_snr(size, 0.01), log_snr, range(len(log_snr)))
        ax.axvline(k, color=colour, linestyle=":", label="d′ = 2")
    ax.set(
        title="critical step: what a late start leaves",
        xlabel="start step",
        ylabel="share of p₋ left",
    )


def formula(ax: Axes, rows: pd.DataFrame, _: Any, there: set[str]) -> None:
    """Measured critical log-SNRs beside the formula's."""
    names = {"a tenth left": ACCENT, "a half left": CLASS[4]} if "separations" in there else {}
    for name, colour in names.items():
        line(ax, pooled(rows, "separations", name, "seeds"), colour, name, linestyle="")
    x = np.geomspace(0.35, 7, 60)
    ax.plot(x, [critical_log_snr(v, 0.01) for v in x], ":", color=NULL, label="formula, d′ = 2")
    ax.set(title="critical log-SNR over the separation", xlabel="separation δ of p₋",
           ylabel="log-SNR of the start", xscale="log")  # fmt: skip
    ax.set_xticks([0.4, 0.8, 1.6, 3.2, 6.4], ["0.4", "0.8", "1.6", "3.2", "6.4"])
    ax.minorticks_off()


def overlap(ax: Axes, rows: pd.DataFrame, _: Any, there: set[str]) -> None:
    """The cosine over P(p₋|p₊), and what is kept and removed."""
    if "overlaps" in there:
        line(ax, pooled(rows, "overlaps", "cosine"), ACCENT, "cosine, mean of the run")
        for name, colour in {"p₋ left": MINUS, "p₊ kept": PLUS}.items():
            line(
                ax, pooled(rows, "overlaps", name, "share"), colour, f"{name} (share)", markersize=2
            )
    x = np.linspace(0, 0.6, 61)
    ax.plot(x, [overlap_cosine(0.5, CHANCE, 0.5 * r) for r in x], ":", color=NULL,
            label="formula, at $x_T$")  # fmt: skip
    ax.axhline(0, color="0.7", linewidth=0.6)
    ax.axvline(CHANCE, color="0.4", linestyle=":", linewidth=0.8)
    ax.annotate("by chance", (CHANCE, 0.7), (-42, 0), textcoords="offset points", fontsize=6.5)
    ax.set(title="neutralisation: parallel or opposed?", xlabel="P(p₋|p₊)", ylim=(-1.05, 1.05))


def early(ax: Axes, rows: pd.DataFrame, log_snr: Any, there: set[str]) -> None:
    """The share of p₋ over the stop step, by w; and of one mode alone."""
    for w, colour in zip((2.0, 4.0, W), CLASS, strict=False):
        if "two modes" not in there:
            continue
        shown = 100 * pooled(rows, "two modes", f"rare look, w = {w:g}", "share")
        line(ax, shown, colour, f"rare look, w = {w:g}")
        mean = TWO_MODES.mixture.mean[:, 0]
        p = TWO_MODES.mixture.log_weight_given.exp()
        k = np.arange(1, 13)
        pull = w * float((p[0] - p[2]) @ mean)  # of p₋ and of ∅
        at = [100 * early_window(0.001, pull, float(log_snr[i])) for i in k if i < len(log_snr)]
        ax.plot(k[: len(at)], at, color=colour, linestyle=":", label="_")
    if "one mode" in there:
        shown = 100 * pooled(rows, "one mode", f"p₋, w = {W:g}", "share")
        line(ax, shown, "0.5", f"one mode, w = {W:g}")
    ax.set(title="reverse activation: p₋ in the first steps only",
           xlabel="stop step (dotted: formula)", ylabel="% of all pictures",
           ylim=(0, 20), xlim=(0, 31))  # fmt: skip
    ax.set_yscale("symlog", linthresh=0.1)


def path(ax: Axes, rows: pd.DataFrame, _: Any, there: set[str]) -> None:
    """p_t(x) over the steps, each at its own scale, and three runs from one x_T through it."""
    S = int(rows["steps"].iloc[0])
    paths = three_paths(TWO_MODES, S, min(10, S))
    visited, x = [*timesteps(SCHEDULE.T, S), 0], torch.linspace(-4.5, 3, 301, dtype=torch.float64)
    log_p = [TWO_MODES.mixture.log_prob(SCHEDULE, x[:, None], t) for t in visited]
    density = torch.stack([p - p.max() for p in log_p], 1) / np.log(10)  # (301, S+1)
    shown: dict[str, Any] = {"cmap": "Greys", "vmin": -5, "vmax": 0.5, "shading": "nearest"}
    ax.pcolormesh(range(S + 1), x.numpy(), density.numpy(), rasterized=True, **shown)
    colours = ACCENT, CLASS[2], CLASS[0]  # as in notebook 6
    for (name, values), colour in zip(paths.items(), colours, strict=True):
        ax.plot(range(S + 1), values, color=colour, linewidth=1.6, label=name)
    ax.set(
        title="one picture, three runs (grey: $p_t$, logarithmic)", xlabel="step", ylabel="$x_t$"
    )


def three_paths(world: World, S: int, stop: int) -> dict[str, list[float]]:
    """The same x_T without p₋, with it in the first steps, and with it always: S + 1 states."""
    x_T = torch.full((1, 1), PICTURE, dtype=torch.float64)
    runs = {"without p₋": S, f"p₋ for {stop} steps": 0, "p₋ always": 0}
    stops = (None, stop, None)
    return {
        name: [float(x) for x in states(world, x_T, S, start=start, stop=end)]
        for (name, start), end in zip(runs.items(), stops, strict=True)
    }
