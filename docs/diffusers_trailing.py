"""Reproduce in diffusers: with `timestep_spacing="trailing"` DDIM steps to other t than it visits.

    python docs/diffusers_trailing.py

`set_timesteps` spaces the t evenly and rounds; `step` goes from t to t − 1000 // S. With "trailing"
the two differ where S does not divide 1000, with "linspace" always. Seen with the true noise: x_t =
√ᾱ_t·x_0 + √(1−ᾱ_t)·ε, and a DDIM step with this ε has to land on the x of the next t. Schedulers
only; nothing is downloaded.
"""

import itertools

import diffusers
import torch
from diffusers import DDIMScheduler
from torch import Tensor

x_0, eps = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def miss(spacing: str, S: int) -> tuple[list[int], float]:
    """The visited t, and how far from the next x a step with the true noise lands, at most."""
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        timestep_spacing=spacing,
    )
    scheduler.set_timesteps(S)

    def noised(t: int) -> Tensor:
        alpha_bar = scheduler.alphas_cumprod[t]
        return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps

    visited = scheduler.timesteps.tolist()
    gaps = [
        float((scheduler.step(eps, t, noised(t)).prev_sample - noised(s)).abs().max())
        for t, s in itertools.pairwise(visited)
    ]
    return visited, max(gaps)


print(f"diffusers {diffusers.__version__}, DDIMScheduler")
for spacing, S in itertools.product(("leading", "trailing", "linspace"), (20, 30)):
    visited, gap = miss(spacing, S)
    print(
        f"{spacing}, {S} steps: visits {', '.join(map(str, visited[:4]))} …, "
        f"steps by {1000 // S}, misses by {gap:.2g}"
    )
