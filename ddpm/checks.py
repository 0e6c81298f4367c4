"""The rules of `@checked`: what an argument of the formulas must be.

Looked at is what torch would let pass in silence: shapes that broadcast, an integer image, a t that
indexes from the end.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from ddpm.checked import Call, Rule
from ddpm.values import integer, is_number

INTEGERS = (torch.int64, torch.int32)


def look_at_images(name: str, value: Any, call: Call) -> None:
    """Floats (B, ...), of the shape and on the device of the call's first batch of images."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if not value.is_floating_point() or not value.numel() or not value.ndim:
        raise ValueError(f"{name} must be (B, ...) floats, B ≥ 1, got {_describe(value)}")
    first, images = _first_images(call)
    if value.shape != images.shape:
        raise ValueError(f"{name} must have the shape of {first}, {tuple(images.shape)}, "
                         f"got {tuple(value.shape)}")  # fmt: skip
    if value.device != images.device:
        raise ValueError(f"{name} must be on {images.device} as {first} is, got {value.device}")


def look_at_times(name: str, value: Any, call: Call, least: int = 1) -> None:
    """An integer in least..T, or (B,) of them, one for each image."""
    T = call["schedule"].T
    if isinstance(value, Tensor) and value.ndim:
        check_times(name, value, _first_images(call)[1], T, least)
    elif integer(value) is None or not least <= value <= T:
        raise ValueError(f"{name} must be an integer in {least}..{T} or one for each image, "
                         f"got {value!r:.80}")  # fmt: skip


def check_times(name: str, t: Tensor, x: Tensor, T: int, least: int = 1) -> None:
    """TypeError or ValueError unless t holds an integer in least..T for each image of x."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(t).__name__}")
    if t.shape != x.shape[:1] or t.dtype not in INTEGERS:
        raise ValueError(f"{name} must hold one integer per image, ({len(x)},), got {_describe(t)}")
    if t.device not in (x.device, torch.device("cpu")):
        raise ValueError(f"{name} must be on {x.device} as the images are, got {t.device}")
    # On an accelerator looking at t would stall the queue of work; there we trust it.
    if t.device.type == "cpu" and len(t) and not least <= t.min() <= t.max() <= T:
        raise ValueError(f"{name} must lie in {least}..{T}, got {int(t.min())}..{int(t.max())}")


def look_at_steps(name: str, value: Any, call: Call) -> None:
    """None, a number of steps in 1..T, or a strictly decreasing sequence of t in 1..T."""
    T = call["schedule"].T
    if value is None or (integer(value) is not None and 1 <= value <= T):
        return
    found: list[int | None] = [None]
    if hasattr(value, "__getitem__") and getattr(value, "ndim", True):
        found = [integer(t) for t in itertools.islice(value, T + 1)]  # it may be range(10**9)
    visited = [t for t in found if t is not None]
    falls = all(t > s for t, s in itertools.pairwise([T + 1, *visited, 0]))
    if not visited or len(visited) < len(found) or not falls:
        raise ValueError(f"{name} must be an integer in 1..{T}, or strictly decreasing t among "
                         f"them, got {value!s:.80}")  # fmt: skip


def look_at_clip(name: str, value: Any, call: Call) -> None:
    """None, or (low, high) with low < high."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_number, value))
    if value is not None and not (pair and value[0] < value[1]):
        raise ValueError(f"{name} must be None or (low, high) with low < high, got {value!r:.80}")


def look_at_labels(name: str, value: Any, call: Call) -> None:
    """None, or (B,) integers in 0..K, K being the mixture's ∅."""
    null = call["self"].null_token
    n = len(_first_images(call)[1])
    fits = isinstance(value, Tensor) and value.shape == (n,) and value.dtype in INTEGERS
    if value is not None and not (fits and bool(((value >= 0) & (value <= null)).all())):
        raise ValueError(f"{name} must hold {n} classes in 0..{null} ({null} is ∅), got {value}")


def look_at_generator(name: str, value: Any, call: Call) -> None:
    """None, one torch.Generator, or a list of them, one for each image."""
    several = list(value) if isinstance(value, (tuple, list)) else [value]
    if value is not None and not all(isinstance(g, torch.Generator) for g in several):
        raise TypeError(f"{name} must be a torch.Generator or a list of them, got {value!r:.80}")
    n = len(_first_images(call)[1])
    if isinstance(value, (tuple, list)) and len(value) != n:
        raise ValueError(f"{name} must be one, or one for each of the {n} images, got {len(value)}")


def look_at_grid(name: str, value: Any, call: Call) -> None:
    """Images on the grid of `levels` values in [-1, 1]."""
    look_at_images(name, value, call)
    levels = call["levels"]
    if not 2 <= (integer(levels) or 0) <= 65_536:
        raise ValueError(f"levels must be an integer in 2..65536, got {levels!r:.80}")
    grid = (value + 1) / 2 * (levels - 1)
    on_it = ((grid - grid.round()).abs() < 1e-3) & (value.abs() < 1 + 1e-6)  # no NaN either
    if not bool(on_it.all()):
        raise ValueError(f"{name} must lie on the grid of {levels} levels in [-1, 1]")


def one_of(*allowed: str) -> Rule:
    """The rule of an argument that is one of a few words."""

    def look_at_word(name: str, value: Any, call: Call) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r:.80}")

    return look_at_word


def number(low: float, high: float = 1e300, *, inside: bool = False) -> Rule:
    """The rule of a finite number in [low, high], or inside of it: in (low, high)."""

    def look_at_number(name: str, value: Any, call: Call) -> None:
        right = is_number(value) and (low < value < high if inside else low <= value <= high)
        if not right:
            interval = f"({low:g}, {high:g})" if inside else f"[{low:g}, {high:g}]"
            raise ValueError(f"{name} must lie in {interval}, got {value!r:.80}")

    return look_at_number


def whole(least: int, most: int) -> Rule:
    """The rule of an integer in least..most."""

    def look_at_integer(name: str, value: Any, call: Call) -> None:
        if integer(value) is None or not least <= value <= most:
            raise ValueError(f"{name} must be an integer in {least}..{most}, got {value!r:.80}")

    return look_at_integer


Images = Annotated[Tensor, look_at_images]
GridImages = Annotated[Tensor, look_at_grid]
Times = Annotated[Tensor | int, look_at_times]
TimesOrClean = Annotated[Tensor | int, functools.partial(look_at_times, least=0)]
Labels = Annotated[Tensor | None, look_at_labels]
Steps = Annotated[int | Sequence[int] | None, look_at_steps]
Clip = Annotated[tuple[float, float] | None, look_at_clip]
Generators = Annotated[torch.Generator | Sequence[torch.Generator] | None, look_at_generator]
Variance = Annotated[str, one_of("beta", "posterior")]
Count = Annotated[int, whole(1, 1_000_000)]  # more can only be a mistake, and fill the memory
Seed = Annotated[int, whole(0, 2**63 - 1)]


def _first_images(call: Call) -> tuple[str, Tensor]:
    return next((n, v) for n, v in call.items() if isinstance(v, Tensor) and v.is_floating_point())


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"
