"""The blanks of notebook 2, filled in."""

import torch
from exercises import check

from ddpm import q_sample


def times(n, T, generator):
    """DDPM Alg. 1: t ~ U{1, …, T}, one for each of n images."""
    return torch.randint(1, T + 1, (n,), generator=generator)


check("DDPM Alg. 1", times)


def loss_of(eps_theta, schedule, x_0, t, eps):
    """DDPM Eq. 14 as a mean per pixel. q_sample is Eq. 4; eps_theta(x_t, t) is the network."""
    x_t = q_sample(schedule, x_0, t, eps)
    return (eps - eps_theta(x_t, t)).square().mean()


check("DDPM Eq. 14", loss_of)
