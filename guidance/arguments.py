"""What the guidances share: what their arguments must be, and two predictions in one batch."""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor

from ddpm.checked import Call, Rule
from ddpm.values import integer

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)
ConditionalPredictor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""eps(x_t, t, c) -> ε̂, with x_t (B, ...), t (B,) int64, c (B,) int64 in 0..K and K = ∅."""


def together(
    eps: ConditionalPredictor, x_t: Tensor, t: Tensor, *labels: Tensor
) -> tuple[Tensor, ...]:
    """ε(x_t, c) for each c of k labels, (B,) each, by one pass through the network: a batch of kB.

    On a CPU labels that are the same are asked once. Elsewhere to look at them would stall the
    queue of work.
    """
    asked: list[Tensor] = []
    places = []
    for c in labels:
        same = (i for i, other in enumerate(asked) if torch.equal(c, other))
        places.append(next(same, len(asked)) if x_t.device.type == "cpu" else len(asked))
        if places[-1] == len(asked):
            asked.append(c)
    k = len(asked)
    answers = eps(torch.cat([x_t] * k), torch.cat([t] * k), torch.cat(asked)).chunk(k)
    return tuple(answers[i] for i in places)  # (B, ...) each


def per_image(name: str, value: float | Tensor, x_t: Tensor) -> Tensor:
    """value as (B,) on x_t's device, in its own type. ValueError unless it is one number or B."""
    tensor = torch.as_tensor(value)
    if tensor.dtype == torch.float64 and x_t.device.type == "mps":  # which knows no float64
        tensor = tensor.float()
    tensor = tensor.to(x_t.device, non_blocking=True)
    if tensor.shape not in ((), (len(x_t),)):
        raise ValueError(
            f"{name} must be one number or one per image, ({len(x_t)},), got {tuple(tensor.shape)}"
        )
    return tensor.expand(len(x_t))


def labels(name: str, c: int | Tensor, x_t: Tensor) -> Tensor:
    """c as (B,) int64 on x_t's device."""
    return per_image(name, c, x_t).long()


def factor(name: str, value: float | Tensor, x_t: Tensor) -> float | Tensor:
    """value, ready to multiply x_t: a number stays one, (B,) becomes (B, 1, ...) of x_t's type."""
    if not torch.as_tensor(value).ndim:
        return float(value)
    return per_image(name, value, x_t).to(x_t.dtype).view(-1, *[1] * (x_t.ndim - 1))


def during(start: float | Tensor | None, stop: float | Tensor, t: Tensor, x_t: Tensor) -> Tensor:
    """Whether stop < t ≤ start, (B,); start=None is from the first step."""
    first = torch.inf if start is None else start
    return (per_image("stop", stop, x_t) < t) & (t <= per_image("start", first, x_t))


def finite(convention: str) -> Rule:
    """The rule of a finite number, or one for each image; the message repeats the convention."""

    def look_at_number(name: str, value: Any, call: Call) -> None:
        tensor = _tensor(value)
        if tensor.ndim > 1 or tensor.is_complex() or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} must be a finite number, or one for each image "
                             f"({convention}), got {value!r:.80}")  # fmt: skip

    return look_at_number


def look_at_labels(name: str, value: Any, call: Call) -> None:
    """A label in 0..null, or one for each image."""
    look_at_null("null", call["null"], call)
    check_labels(name, value, call["null"], f" ({call['null']} is ∅)")


def look_at_label_or_none(name: str, value: Any, call: Call) -> None:
    """None, or a label in 0..null, or one for each image."""
    if value is not None:
        look_at_labels(name, value, call)


def check_labels(name: str, c: int | Tensor, last: int, note: str = "") -> None:
    """ValueError unless every label is an integer in 0..last."""
    found = _tensor(c)
    if found.ndim > 1 or found.dtype not in INTEGERS:
        raise ValueError(f"{name} must be a class or one class per image (B,), got {c!r:.80}")
    if found.numel() and not 0 <= int(found.min()) <= int(found.max()) <= last:
        raise ValueError(f"{name} must lie in 0..{last}{note}, got {c!r:.80}")


def look_at_vector(name: str, value: Any, call: Call) -> None:
    """A tensor (B,) of integers: a mask of bools would pass for the classes 0 and 1."""
    if not isinstance(value, Tensor) or value.ndim != 1 or value.dtype not in INTEGERS:
        raise TypeError(f"{name} must be a tensor (B,) of integers, got {value!r:.80}")


def look_at_null(name: str, value: Any, call: Call) -> None:
    """K, the number of classes and the token of ∅."""
    if not 1 <= (integer(value) or 0) <= 1_000_000:
        raise ValueError(f"{name} must be K, the number of classes and the token of ∅, "
                         f"got {value!r:.80}")  # fmt: skip


def look_at_window(name: str, value: Any, call: Call) -> None:
    """A stop that does not lie above its start; both are values of t, numbers or (B,)."""
    finite("a value of t")(name, value, call)
    start, stop = _tensor(call["start"]), _tensor(value).cpu()
    if call["start"] is None:
        return
    finite("a value of t; None is from the first step")("start", call["start"], call)
    if start.ndim and stop.ndim and start.shape != stop.shape:
        raise ValueError(f"start and stop must be of one length, got {len(start)} and {len(stop)}")
    if bool((start.cpu() < stop).any()):
        raise ValueError(
            "start must not lie below stop: t falls from T to 1, and the guidance acts while "
            f"stop < t ≤ start; got start={call['start']}, stop={value}"
        )


Label = Annotated[int | Tensor, look_at_labels]
LabelOrNone = Annotated[int | Tensor | None, look_at_label_or_none]
Null = Annotated[int, look_at_null]
Stop = Annotated[float | Tensor, look_at_window]  # beside an argument `start`


def _tensor(value: Any) -> Tensor:
    """value as a tensor; NaN where it can't be one, which no rule lets pass."""
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return torch.tensor(torch.nan)
