"""What of the network is a formula: DDPM App. B."""

import math

import torch
from torch.testing import assert_close

from unet.blocks import timestep_embedding


def test_sinusoids_are_the_transformers():
    """DDPM App. B: cos and sin of t/10000^(2i/d), i = 0 … d/2−1."""
    t, d = torch.tensor([0, 1, 37, 1000]), 6
    expected = [
        [f(k / 10_000 ** (2 * i / d)) for f in (math.cos, math.sin) for i in range(d // 2)]
        for k in t.tolist()
    ]
    assert_close(timestep_embedding(t, d), torch.tensor(expected), rtol=0, atol=1e-4)
