"""Processes that start at once: forked from one that has imported torch and made a step."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["warm"])


def start(
    work: Callable[..., int | None], *args: object, said: Path, env: dict[str, str] | None = None
) -> BaseProcess:
    """work(*args) in another process, which ends with what it gives; SAID.out, SAID.err: output."""
    process = _SERVER.Process(target=_child, args=(work, args, said, env or {}))
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
