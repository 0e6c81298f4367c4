"""What the ranks that torchrun has started do together; a process alone goes through untouched."""

import itertools
import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from guidance.app.draw import stream_seed
from unet.device import choose_device

T = TypeVar("T")


def launched() -> bool:
    """Whether torchrun started this process, alone or not."""
    return dist.is_available() and dist.is_torchelastic_launched()


def world() -> int:
    """The number of ranks: several inside of `command` until `leave`, else 1."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if world() > 1 else 0


def join(name: str) -> torch.device:
    """This rank's device for --device NAME. ValueError if there is none, or none for several."""
    if world() == 1:
        return choose_device(name)
    if name not in ("auto", "cuda", "cpu"):
        raise ValueError(f"--device must be auto, cuda or cpu under torchrun, got {name}")
    # 1×1 convolutions: the layouts differ in dimensions of size 1 alone
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return choose_device("cpu")
    device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
    torch.cuda.set_device(device)
    return device


def leave() -> bool:
    """End the group when all have come here. True for the rank that goes on, alone."""
    number = rank()
    if world() > 1:
        barrier()
        dist.destroy_process_group()
    return number == 0


def barrier() -> None:
    """Wait until every rank has come here."""
    any_of(False)


def any_of(flag: bool) -> bool:
    """Whether the flag is set on any rank: the same answer on all."""
    return bool(_reduced(flag, dist.ReduceOp.MAX))


def mean(value: float) -> float:
    """The mean over the ranks, the same on all."""
    return _reduced(value, dist.ReduceOp.SUM) / world()


def _reduced(value: float, operation: Any) -> float:
    if world() == 1:
        return value
    result = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(result, operation)
    return result.item()


def gather(value: T) -> list[T]:
    """Every rank's value (no tensor on a GPU), in their order, on rank 0; [] on the others."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.gather_object(value, values if rank() == 0 else None)
    return values if rank() == 0 else []


def in_order(x: Tensor) -> Tensor:
    """On rank 0 all samples, of which the ranks have drawn one in turn; elsewhere x.

    x: `draw(…, only=slice(rank(), None, world()))`. Any number of ranks draws the same.
    """
    turns = itertools.zip_longest(*gather(x))
    images = [image for turn in turns for image in turn if image is not None]
    return torch.stack(images) if images else x


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


def part_of(batch_size: int, accumulate: int = 1) -> int:
    """This rank's part of a batch. ValueError if some parts would have more than others."""
    if batch_size % (world() * accumulate):
        parts = {f"the {world()} processes": world(), f"--accumulate {accumulate}": accumulate}
        what = " times ".join(name for name, n in parts.items() if n > 1)
        raise ValueError(f"--batch-size must be divisible by {what}, got {batch_size}")
    return batch_size // world()


def seeded(generator: torch.Generator, seed: int) -> torch.Generator:
    """The generator, seeded with this rank's own seed; other ranks than 0 seed dropout as well."""
    if rank():
        torch.manual_seed(stream_seed(seed, 2 * rank() + 1))
    return generator.manual_seed(stream_seed(seed, 2 * rank()))
