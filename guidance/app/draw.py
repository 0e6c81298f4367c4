"""From a guide, labels and a seed to samples."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm import Predictor, Step, ancestral, ddim, dpm_solver, timesteps
from ddpm.checked import Call, checked
from ddpm.checks import Count, Seed
from ddpm.values import integer
from guidance.app.guides import Guide
from guidance.app.models import Models
from guidance.arguments import check_labels, look_at_vector

Sampler = Callable[..., Iterator[Step]]
"""`ddim`, `dpm_solver` or `ancestral`, with all bound but schedule, eps, x_T and generator."""
DDIM_50: Sampler = partial(ddim, steps=50)
EVERY = slice(None)


def sampler_of(flags: Any, shift: Predictor | None = None) -> Sampler:
    """The sampler that a command's flags name; shift is ancestral's."""
    if flags.sampler == "ddim":
        return partial(ddim, steps=flags.steps, eta=flags.eta)
    if flags.sampler == "dpm-solver":
        return partial(dpm_solver, steps=flags.steps)
    return partial(ancestral, steps=flags.steps, variance=flags.variance, shift=shift)


def check_eta(flags: Any) -> None:
    """ValueError where η is given to a sampler that has none."""
    if flags.eta and flags.sampler != "ddim":
        raise ValueError(f"--eta needs --sampler ddim, got {flags.eta:g} with {flags.sampler}")


def look_at_places(name: str, value: Any, call: Call) -> None:
    """A slice, or places in 0..n−1."""
    if isinstance(value, slice):
        return
    n = len(call["c"])
    places = [integer(i) for i in value] if isinstance(value, (list, tuple, range, Tensor)) else []
    if not all(i is not None and 0 <= i < n for i in places) or not places:
        raise ValueError(f"{name} must be a slice or places in 0..{n - 1}, got {value!r:.80}")


@checked
def draw(
    models: Models,
    guide: Guide,
    c: Annotated[Tensor, look_at_vector],
    seed: Seed,
    *,
    sampler: Sampler = DDIM_50,
    batch_size: Count = 100,
    dtype: torch.dtype | None = None,
    text: str = "samples",
    only: Annotated[slice | Sequence[int], look_at_places] = EVERY,
) -> Tensor:
    """One sample for each label of c (n,), ∅ = K allowed: (n, C, H, W), float32 on the CPU.

    The same seed gives every guide the same x_T, and each picture a stream of noise of its own: it
    does not depend on batch_size (but for the last bits that a network rounds), nor on which other
    pictures are drawn. only: those of the n that are wanted, by their places, or by a slice;
    slice(k, None, m) is the k-th of m parts. dtype: of autocast, None for none; text: of the
    progress bar.
    """
    check_labels("c", c, models.K)
    n = len(_places(only, len(c)))
    samples = [models.noise(0, torch.Generator()).float().cpu()]
    with tqdm(total=n, desc=text, unit="img", leave=False, disable=None) as bar:
        for steps in processes(models, guide, c, seed, sampler, batch_size, only):
            with torch.autocast(models.device.type, dtype, enabled=dtype is not None):
                samples.append(final(steps).float().cpu())
            bar.update(len(samples[-1]))
    return torch.cat(samples)


def processes(
    models: Models,
    guide: Guide,
    c: Tensor,
    seed: int,
    sampler: Sampler,
    batch_size: int,
    only: slice | Sequence[int] = EVERY,
) -> Iterator[Iterator[Step]]:
    """What `draw` draws, batch by batch, as the samplers that draw it."""
    x_T = models.noise(len(c), torch.Generator().manual_seed(seed))  # (n, C, H, W)
    c = c.long().to(x_T.device)
    places = _places(only, len(c))
    for k in range(0, len(places), batch_size):
        batch = places[k : k + batch_size]
        streams = [torch.Generator().manual_seed(stream_seed(seed, i + 1)) for i in batch]
        yield sampler(models.schedule, guide(models, c[batch]), x_T[batch], generator=streams)


def _places(only: slice | Sequence[int], n: int) -> list[int]:
    return list(range(n)[only]) if isinstance(only, slice) else [int(i) for i in only]


def final(steps: Iterator[Step]) -> Tensor:
    """The last state of a sampler, without keeping those before it."""
    for step in steps:
        x = step.x
    return x


def stream_seed(seed: int, stream: int) -> int:
    """`seed` for stream 0, and seeds far apart for the others: torch's generator mixes them."""
    return (seed + stream * 0x9E3779B97F4A7C15) % 2**63 if stream else seed


def window(T: int, S: int, start_step: int, stop_step: int | None = None) -> tuple[int, int]:
    """(start, stop) for `negative_guidance` and `classifier_free_guidance`: t from steps in 0..S.

    Step k is the update at timesteps(T, S)[k]; S is "after the last". start_step is the first with
    the negative class (or with guidance), stop_step the first without it again.
    """
    visited = [*timesteps(T, S), 0]
    stop_step = S if stop_step is None else stop_step
    for name, k in (("start_step", start_step), ("stop_step", stop_step)):
        if integer(k) is None or not 0 <= k <= S:
            raise ValueError(f"{name} must lie in 0..{S} ({S} is after the last step), got {k}")
    if start_step > stop_step:
        raise ValueError(
            f"start_step must not come after stop_step, got {start_step} and {stop_step}"
        )
    return visited[start_step], visited[stop_step]
