"""Shared oracles, all in float64: the tolerances of the tests are those of its arithmetic."""

import atexit
import ctypes
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import helpers
import pytest
import torch

from ddpm import GaussianMixture, Schedule, cosine_schedule, linear_schedule

COUNT: Counter[str] = Counter()  # what was tried, for the table of `make soak`
if "COUNTS" in os.environ:
    atexit.register(lambda: Path(os.environ["COUNTS"]).write_text(json.dumps(COUNT)))


@pytest.fixture(params=["linear", "cosine"])
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return {"linear": linear_schedule, "cosine": cosine_schedule}[request.param]()


@pytest.fixture
def mixture() -> GaussianMixture:
    """Three correlated Gaussians in the plane, unequal weights."""
    root = torch.tensor(
        [[[0.5, 0.0], [0.3, 0.4]], [[0.7, 0.0], [-0.2, 0.3]], [[0.3, 0.0], [0.0, 0.6]]],
        dtype=torch.float64,
    )
    return GaussianMixture(
        mean=torch.tensor([[-1.0, 0.5], [1.2, 0.8], [0.1, -1.0]], dtype=torch.float64),
        covariance=root @ root.mT,
        weight=torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
    )


@pytest.fixture
def line() -> GaussianMixture:
    """Three Gaussians on a line, at −3, 0 and 3 with variance 0.25."""
    return GaussianMixture(
        mean=torch.tensor([[-3.0], [0.0], [3.0]], dtype=torch.float64),
        covariance=torch.full((3,), 0.25, dtype=torch.float64),
    )


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[Path]:
    """A directory in which permissions bind whoever runs the tests, root too."""
    if os.geteuid():
        yield tmp_path
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("permissions do not bind root")
    before = _capabilities()
    after = list(before)
    after[0] &= ~0b110  # of the effective ones CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    _capabilities(after)
    try:
        yield tmp_path
    finally:
        _capabilities(before)


def _capabilities(new: list[int] | None = None) -> list[int]:
    """This thread's capabilities as Linux counts them, version 3; or new ones in their place."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*(new or []))
    if (libc.capset if new else libc.capget)(header, data):
        raise OSError(ctypes.get_errno(), "capabilities can't be had")
    return list(data)


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def normal(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pytest_configure(config: pytest.Config) -> None:
    config.outcomes = {}  # node id -> passed, failed or skipped: the equation index asks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The equation index last: it wants to know how the others ended."""
    items.sort(key=lambda item: item.path.name == "test_equations.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> object:
    report = yield
    if report.when == "call" or report.outcome != "passed":
        item.config.outcomes[item.nodeid] = report.outcome
    return report


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run of `python -m train`, which nobody may change."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert helpers.train("--out", out) == 0
    return out
