"""DPM-Solver++ (2M): DDIM's update with the slope of x̂_0 in it. Lu et al. 2022, Alg. 2.

Along the reverse process dx/dλ = (σ'/σ)·x + α·x̂_0, whose exact solution from t to s is
x_s = σ_s/σ_t·x_t + σ_s·∫ e^λ·x̂_0(λ) dλ. DDIM takes x̂_0 to be constant over the step. This takes the
straight line through the last two x̂_0: an error of h² in the place of h, for no more passes.
"""

import itertools
from collections.abc import Iterator

import torch

from ddpm.checked import checked
from ddpm.checks import Clip, Generators, Images, Steps
from ddpm.loss import Predictor
from ddpm.reverse import Step, clipped, predict_x_0, visits
from ddpm.schedule import Schedule


@checked
@torch.no_grad()
def dpm_solver(
    schedule: Schedule,
    eps: Predictor,
    x_T: Images,
    steps: Steps = None,
    *,
    clip: Clip = (-1, 1),
    generator: Generators = None,
) -> Iterator[Step]:
    """x_s = σ_s/σ_t·x_t − α_s·(e^{−h} − 1)·D,  D = (1 + 1/(2r))·x̂_0(x_t) − 1/(2r)·x̂_0(x_u)

    DPM-Solver++ Alg. 2, with α = √ᾱ, σ = √(1−ᾱ), λ = log(α/σ), h = λ_s − λ_t, r = (λ_t − λ_u)/h:
    u is the t visited before t, s the next one. D = x̂_0(x_t), which is DDIM Eq. 12 with η = 0, at
    the first update, where there is no u, and at the last, where h is infinite.
    x_T: (B, ...). steps: None (all T), a number S, or a decreasing list of t. clip acts on each
    x̂_0, not on D. It draws no noise: generator is there as `ddim` has one, and is not touched.
    """
    alpha, sigma = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()  # (T+1,)
    lam = (alpha / sigma).log()  # λ, infinite at t = 0
    x, before = x_T, None
    for t, s in itertools.pairwise([*visits(schedule.T, steps), 0]):
        e = eps(x, torch.full((len(x),), t, device=x.device))  # (B, ...)
        x_0 = clipped(predict_x_0(schedule, x, t, e), clip)
        h, D = lam[s] - lam[t], x_0
        if before is not None and s > 0:
            u, x_0_u = before
            r = (lam[t] - lam[u]) / h
            D = (1 + 1 / (2 * r)) * x_0 - 1 / (2 * r) * x_0_u
        x = sigma[s] / sigma[t] * x - alpha[s] * torch.expm1(-h) * D
        before = t, x_0
        yield Step(t, x, e, x_0)
