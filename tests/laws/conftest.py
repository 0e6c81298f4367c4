"""The exact worlds, all in float64: the tolerances of the laws are those of its arithmetic."""

import pytest
import torch
from oracles import three_in_the_plane, three_on_a_line

from ddpm import GaussianMixture


@pytest.fixture
def mixture() -> GaussianMixture:
    return three_in_the_plane()


@pytest.fixture
def line() -> GaussianMixture:
    return three_on_a_line()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
