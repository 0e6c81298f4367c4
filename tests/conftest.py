"""What tests of more than one kind need."""

import os

# Before torch loads: one thread in each worker, since the workers are what runs in parallel.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import ctypes
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import helpers
import pytest

from ddpm import Schedule, cosine_schedule, linear_schedule

pytest_plugins = ("equation_index",)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The notebooks first: they take longest, and other workers have the rest to go on with."""
    items.sort(key=lambda item: item.path.name != "test_notebooks_run.py")


@pytest.fixture(params=["linear", "cosine"])
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return {"linear": linear_schedule, "cosine": cosine_schedule}[request.param]()


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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run of `python -m train`, which nobody may change.

    What it has said to stdout is in the file "said" beside it.
    """
    out = tmp_path_factory.mktemp("runs") / "tiny"
    with open(out.parent / "said", "w") as said, contextlib.redirect_stdout(said):
        assert helpers.train("--out", out, shown=True) == 0
    return out
