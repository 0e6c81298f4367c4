"""What the processes that torchrun has started do together: `world()` ranks, numbered from 0.

A process that is alone goes through here untouched.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from guidance import sampling
from guidance.models import Models

T = TypeVar("T")


def world() -> int:
    """The number of ranks: 1 until `launch.join`, and after `launch.leave`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if world() > 1 else 0


def barrier() -> None:
    """Wait until every rank has come here."""
    any_of(False)


def any_of(flag: bool) -> bool:
    """Whether the flag is set on any rank: the same answer on all."""
    if world() == 1:
        return flag
    highest = torch.tensor(float(flag))
    dist.all_reduce(highest, dist.ReduceOp.MAX)
    return bool(highest)


def told_to_stop(came: bool, step: int, device: torch.device) -> bool:
    """Whether a signal came to any rank. GPUs, a step ahead of Python, ask at each tenth only."""
    return (world() == 1 or device.type == "cpu" or step % 10 == 0) and any_of(came)


def mean(value: float) -> float:
    """The mean over the ranks, the same on all."""
    if world() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return total.item() / world()


def gather(value: T) -> list[T]:
    """Every rank's value (no tensor on a GPU), in their order, on rank 0; [] on the others."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.gather_object(value, values if rank() == 0 else None)
    return values if rank() == 0 else []


def first(work: Callable[[], T]) -> T:
    """work() by one rank of each machine before the others: they find what it has downloaded."""
    number = int(os.environ["LOCAL_RANK"]) if world() > 1 else 0
    if number:
        barrier()
    value = work()
    if not number:
        barrier()
    return value


class _Parallel(DistributedDataParallel):
    """DistributedDataParallel with the attributes of the model in it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


def parallel(model: nn.Module) -> nn.Module:
    """The model with gradients that are means over the ranks, and the parameters of rank 0."""
    return model if world() == 1 else _Parallel(model)


def share(batch_size: int) -> int:
    """This rank's part of a batch. ValueError if some would have more than others."""
    if batch_size % world():
        raise ValueError(
            f"--batch-size must be divisible by the {world()} processes, got {batch_size}"
        )
    return batch_size // world()


def seeded(generator: torch.Generator, seed: int) -> torch.Generator:
    """The generator, seeded with this rank's own seed; other ranks than 0 seed dropout as well."""
    number = rank()
    if number:
        torch.manual_seed(sampling.stream_seed(seed, 2 * number + 1))
    return generator.manual_seed(sampling.stream_seed(seed, 2 * number))


def draw(
    models: Models,
    request: sampling.Request,
    sampler: sampling.Sampler,
    c: Tensor,
    seed: int,
    *,
    batch_size: int = 100,
    **options: Any,
) -> Tensor:
    """`guidance.sampling.draw`, each batch by one rank: all samples on rank 0, its own elsewhere.

    With DDIM and η = 0 they are the same for any number of ranks.
    """
    options |= {"batch_size": batch_size, "share": (rank(), world())}
    mine = sampling.draw(models, request, sampler, c, seed, **options)
    shares = [x.split(batch_size) for x in gather(mine)]
    if not shares:
        return mine
    batches = range(-(-len(c) // batch_size))
    return torch.cat([shares[i % world()][i // world()] for i in batches])
