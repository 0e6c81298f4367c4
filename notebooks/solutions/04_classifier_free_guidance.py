"""The blanks of notebook 4, filled in."""

import torch
from exercises import check


def dropped(c, p_uncond, null, generator):
    """CFG Alg. 1: each label becomes `null` with probability p_uncond."""
    drop = torch.rand(c.shape, generator=generator) < p_uncond
    return torch.where(drop, null, c)


check("CFG Alg. 1", dropped)


def guided(eps_c, eps_null, w):
    """CFG Eq. 6."""
    return (1 + w) * eps_c - w * eps_null


check("CFG Eq. 6", guided)
