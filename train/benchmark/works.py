"""The works that have peers: training and sampling at equal FLOPs, and our own guidances."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from guidance.app import guides
from guidance.app.draw import draw
from guidance.app.guides import Guide
from guidance.app.models import Models, load_models
from train.benchmark import peers
from train.benchmark.clock import Work
from train.benchmark.ours import Contender, ours
from train.config import Config
from train.data import Dataset
from unet.device import autocast_dtype

GUIDANCES: dict[str, Guide] = {
    "none": guides.none(),
    "classifier, on ε(c)": guides.classifier(1.0, conditional=True),
    "classifier-free": guides.classifier_free(1.0),
    "negative": guides.negative(1, 1.0),
}


def training(contenders: list[Contender], steps: int, batch_size: int) -> dict[str, Work]:
    """So many training steps of each contender: a forward pass costs a third of one."""
    return {
        c.name: Work(
            functools.partial(_repeat, c.step, steps), steps * batch_size, 3 * c.flops, c.parameters
        )
        for c in contenders
    }


def sampling(contenders: list[Contender], n: int) -> dict[str, Work]:
    """n guided samples of each contender, in 50 steps of two passes."""
    return {c.name: Work(functools.partial(c.sample, n), n, 100 * c.flops) for c in contenders}


def guidance(weights: str, n: int, device: torch.device) -> dict[str, Work]:
    """n samples by each of our guidances, with trained networks."""
    dtype = autocast_dtype("auto", device)
    models = load_models(weights, classifier=True, device=device, dtype=dtype)
    return {
        name: Work(functools.partial(_guided, models, guide, n, dtype), n)
        for name, guide in GUIDANCES.items()
    }


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each row: rate with its spread over the rounds, and ours against it, per FLOP."""
    counted = rows["MFLOPs"] > 0

    def text(values: Any, shape: str) -> Any:
        return values.map(shape.format).where(counted, "")

    rates = ("{:.3g} ({:.3g}–{:.3g})".format(*r) for r in
             zip(rows["images_per_s"], rows["lowest"], rows["highest"], strict=True))  # fmt: skip
    against = rows["work"].map(lambda work: "none" if work == "guidance" else "as fast")
    return pd.DataFrame(
        {
            "work": rows["work"],
            "preset": rows["preset"],
            "who": rows["name"],
            "MFLOPs": text(rows["MFLOPs"], "{:.0f}"),
            "images/s (range)": list(rates),
            "GFLOP/s": text(rows["GFLOPs_per_s"], "{:.0f}"),
            "of peak": text(100 * rows["GFLOPs_per_s"] / rows["peak_GFLOPs_per_s"], "{:.0f} %"),
            "MB": rows["memory_MB"].map("{:.0f}".format),
            "ours is": rows["ratio"].map("{:.2f} × ".format) + against,
        }
    )


def _repeat(step: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        step()


def _guided(models: Models, guide: Guide, n: int, dtype: torch.dtype | None) -> None:
    c = torch.arange(n) % models.K
    draw(models, guide, c, 0, batch_size=n, dtype=dtype)


def contenders(data: Dataset, config: Config, *, compiled: bool) -> list[Contender]:
    """Ours, and the peers that are installed: in float32, and in our precision if it is another."""
    found = [ours(data, config)]
    if compiled:
        on = dataclasses.replace(config, compile="on")
        found.append(ours(data, on, "this project, compiled"))
    auto = autocast_dtype("auto", data.images.device)
    for peer in (peers.diffusers, peers.lucidrains):
        build = functools.partial(peer, data, config, target=found[0].flops)
        try:
            found += [build(p) for p in (["float32"] if auto is None else ["float32", "auto"])]
            if compiled and peer is peers.diffusers:
                found.append(peers.diffusers(data, config, "auto", found[0].flops, compiled=True))
        except ImportError as error:
            print(f"without {peer.__name__}: {error}; pip install 'ddpm-guidance[bench]'")
    return found
