"""Processes that start at once: forked from one that has imported torch and made a step."""

import functools
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch


@functools.cache
def _server() -> ForkServerContext:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["warm"])
    with pytest.MonkeyPatch.context() as patch:  # some versions of Python don't hand sys.path on
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return server


def start(
    work: Callable[..., int | None], *args: object, said: Path, env: dict[str, str] | None = None
) -> BaseProcess:
    """work(*args) in another process, which ends with what it gives; SAID.out, SAID.err: output."""
    process = _server().Process(target=_child, args=(work, args, said, env or {}))
    process.start()
    return process


def _child(
    work: Callable[..., int | None], args: tuple[object, ...], said: Path, env: dict[str, str]
) -> None:
    os.environ.update(env)
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(f"{said}{suffix}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    torch.set_num_threads(1)
    sys.exit(work(*args))
