"""What a network costs: FLOPs of a forward pass, and the shape of a peer that costs the same."""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from train.config import Config
from train.data import Dataset


def forward_flops(data: Dataset, call: Callable[[Tensor, Tensor, Tensor], Tensor]) -> int:
    """FLOPs of one forward pass for one image, as torch counts them: 2 for a multiply and add."""
    x = data.scale(data.images[:1])
    t, c = torch.ones(1, dtype=torch.int64, device=x.device), data.labels[:1]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(x, t, c)
    return int(counter.get_total_flops())


def nearest(
    build: Callable[[int, tuple[int, ...]], Any],
    call: Callable[[Any, Tensor, Tensor, Tensor], Tensor],
    data: Dataset,
    config: Config,
    target: int,
) -> tuple[Any, int]:
    """Of all widths and multipliers, the network whose forward pass costs most nearly `target`.

    ValueError if none comes within 10 %. They are counted on the meta device, which computes
    nothing; costs rise with the width, so that of each multipliers two widths can be nearest.
    """
    one = dataclasses.replace(data, images=data.images[:1], labels=data.labels[:1]).to("meta")
    levels = len(config.multipliers) - 1

    @functools.cache
    def cost(width: int, multipliers: tuple[int, ...]) -> int:
        with torch.device("meta"):
            model = build(width, multipliers)
            return forward_flops(one, functools.partial(call, model))

    widths, near = range(8, 2 * config.width + 8, 8), []
    for rest in itertools.combinations_with_replacement((1, 2, 3, 4), levels):
        multipliers = (1, *rest)
        k = bisect.bisect_left(widths, target, key=lambda width: cost(width, multipliers))
        near += [(width, multipliers) for width in widths[max(k - 1, 0) : k + 1]]
    best = min(near, key=lambda shape: abs(cost(*shape) - target))
    if abs(cost(*best) / target - 1) > 0.1:
        raise ValueError(f"no peer's network costs {target} FLOPs; the nearest has {cost(*best)}")
    torch.manual_seed(0)
    return build(*best).to(data.images.device), cost(*best)


def parameters(model: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in model.parameters())
