"""How a command starts and ends where torchrun starts it several times, once for each GPU."""

import argparse
import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from guidance import command
from guidance.command import Parser, choose_device
from train import ranks

# Long enough for rank 0 to draw its pictures, which the others wait for.
TIMEOUT = timedelta(minutes=5)
_meeting: dict[str, Any] = {}  # torchrun's store, while `run` has several ranks


def launched() -> bool:
    """Whether torchrun started this process, alone or not."""
    return dist.is_available() and dist.is_torchelastic_launched()


def run(
    parser: Parser, arguments: Sequence[str] | None, work: Callable[[argparse.Namespace], int]
) -> int:
    """The exit code of work(flags); errors of the user's are one line on stderr and exit code 2.

    Of several ranks the first alone is heard, and of those that fail the one that did so first.
    """
    if not launched() or int(os.environ["WORLD_SIZE"]) == 1:
        flags = parser.parse_args(arguments)
        return command.run(parser.prog, lambda: work(flags))
    store, number, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    _meeting["store"] = store

    def refuse(message: str) -> NoReturn:
        raise ValueError(f"{message} (--help shows every flag)")

    parser.error = refuse  # type: ignore[method-assign]

    def together() -> int:
        try:
            with contextlib.ExitStack() as quiet:
                if number:
                    null = quiet.enter_context(open(os.devnull, "w"))
                    quiet.enter_context(contextlib.redirect_stdout(null))
                    quiet.enter_context(contextlib.redirect_stderr(null))
                code = work(parser.parse_args(arguments))
                leave()
                return code
        except (Exception, KeyboardInterrupt) as error:
            if not _first_to_fail(store):
                sys.exit(1)
            if _lost(error):
                reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]
                raise OSError(
                    f"another of the {os.environ['WORLD_SIZE']} processes is gone or does not "
                    f"answer; what has been saved is whole ({reason})"
                ) from error
            raise

    return command.run(parser.prog, together)


def _first_to_fail(store: Any) -> bool:
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:  # nobody is left to ask
        return True


def _lost(error: BaseException) -> bool:
    """Whether it says that other ranks don't answer; gloo has no type of its own for that."""
    words = ("gloo", "peer", "Timed out")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def join(name: str) -> torch.device:
    """This rank's device for --device NAME; several ranks are one group from here on.

    ValueError if there is no such device, or none that works in a group.
    """
    if "store" not in _meeting:
        return choose_device(name)
    if name not in ("auto", "cuda", "cpu"):
        raise ValueError(f"--device must be auto, cuda or cpu under torchrun, got {name}")
    gpu = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}" if gpu else "cpu")
    if gpu:
        torch.cuda.set_device(device)
    # 1×1 convolutions: the layouts differ in dimensions of size 1 alone
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",  # what is said below goes from CPU to CPU
        store=_meeting["store"],
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=TIMEOUT,
    )
    return device


def launcher() -> str:
    """How this command was started, up to -m."""
    if ranks.world() == 1:
        return "python"
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    machines = f"--nnodes={ranks.world() // here} " if ranks.world() > here else ""
    return f"torchrun {machines}--nproc-per-node={here}"


def leave() -> bool:
    """End the group when all have come here. True for the rank that goes on, alone."""
    number = ranks.rank()
    if ranks.world() > 1:
        ranks.barrier()
        dist.destroy_process_group()
        _meeting.clear()
    return number == 0
