"""From a guide, labels and a seed to samples."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm import Step, ddim, timesteps
from ddpm.checks import Count, Seed, checked, integer
from guidance.app.guides import Guide
from guidance.app.models import Models
from guidance.arguments import check_labels, look_at_vector

Sampler = Callable[..., Iterator[Step]]
"""`ddim` or `ancestral`, with all bound but schedule, eps, x_T and generator."""
DDIM_50: Sampler = partial(ddim, steps=50)


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
    part: tuple[int, int] = (0, 1),
) -> Tensor:
    """One sample for each label of c (n,), ∅ = K allowed: (n, C, H, W), float32 on the CPU.

    The same seed gives every guide the same x_T. dtype: of autocast, None for none; text: of the
    progress bar. part (k, m): only the k-th of every m batches, with the x_T that they have among
    all, so that m processes can share the work.
    """
    check_labels("c", c, models.K)
    k, m = part
    generator = torch.Generator().manual_seed(seed)
    x_T = models.noise(len(c), generator)  # (n, C, H, W)
    if k:  # the noise of other batches is other noise
        generator.manual_seed(stream_seed(seed, k))
    labels = c.long().to(x_T.device).split(batch_size)
    batches = list(zip(x_T.split(batch_size), labels, strict=True))[k::m]
    samples = [x_T[:0].float().cpu()]
    with (
        tqdm(total=sum(len(x) for x, _ in batches), desc=text, unit="img", leave=False,
             disable=None) as bar,
        torch.autocast(x_T.device.type, dtype, enabled=dtype is not None),
    ):  # fmt: skip
        for x, c_b in batches:
            steps = sampler(models.schedule, guide(models, c_b), x, generator=generator)
            samples.append(final(steps).float().cpu())
            bar.update(len(x))
    return torch.cat(samples)


def final(steps: Iterator[Step]) -> Tensor:
    """The last state of a sampler, without keeping those before it."""
    for step in steps:
        x = step.x
    return x


def stream_seed(seed: int, stream: int) -> int:
    """`seed` for stream 0, and seeds far apart for the others: torch's generator mixes them."""
    return (seed + stream * 0x9E3779B97F4A7C15) % 2**63 if stream else seed


def window(T: int, S: int, start_step: int, stop_step: int | None = None) -> tuple[int, int]:
    """(start, stop) for `negative_guidance`: values of t from step numbers in 0..S.

    Step k is the update at timesteps(T, S)[k]; S is "after the last". start_step is the first with
    the negative class, stop_step the first without it again.
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
