"""A command alone, or in the several processes that torchrun has started."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record

from guidance.app import flags
from train.ranks import launched, leave

TIMEOUT = timedelta(minutes=5)  # for rank 0 to draw its pictures, which the others wait for


def command(
    parser: flags.Parser, arguments: Sequence[str] | None, work: Callable[[argparse.Namespace], int]
) -> int:
    """The exit code of work(flags); errors of the user's are one line on stderr and exit code 2.

    Of several ranks the first alone is heard. How another one failed, torchrun says at the end.
    """
    several = launched() and int(os.environ["WORLD_SIZE"]) > 1
    number = int(os.environ["RANK"]) if several else 0
    if number:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
    given = parser.parse_args(arguments)

    def together() -> int:
        # what is said below goes from CPU to CPU, gradients from GPU to GPU
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            dist.init_process_group(backend, timeout=TIMEOUT)
            code = work(given)
            leave()
            return code
        except RuntimeError as error:
            lost = re.search("gloo|peer|Timed out", str(error))  # it has no type of its own
            if not (lost or isinstance(error, dist.DistError)):
                raise
            reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]
            who = f"another of the {os.environ['WORLD_SIZE']} processes is gone or does not answer"
            raise OSError(f"{who}; what has been saved is whole ({reason})") from error

    if number:
        return record(together)() or 0
    return flags.run(parser.prog, together if several else lambda: work(given))
