"""Where the time of a step goes, by kind of operator, and what this machine could do it in."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from train.benchmark.clock import Row, duration
from train.benchmark.ours import ours
from train.config import Config
from train.data import Dataset

KINDS = {  # by a part of the operator's name; the first that fits
    "convolution": ("conv",),
    "norm, activation": ("group_norm", "silu"),
    "attention": ("attention", "softmax", "bmm"),
    "matrix product": ("mm",),
    "average": ("lerp",),
    "optimiser, clipping": ("adam", "foreach", "linalg"),
    "copy, add, resize": ("",),
}


class Ledger(TorchDispatchMode):
    """Seconds, FLOPs and bytes of every operator that runs under it, by kind.

    Bytes are those of each tensor that goes in or comes out, once each; a view costs none.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.own = 0.0  # seconds of its book-keeping
        self.spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0, 0])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        begin = time.perf_counter()
        kwargs, out = kwargs or {}, []
        seconds = duration(lambda: out.append(func(*args, **kwargs)), self.device)
        row = self.spent[kind(func.__name__)]
        row[0] += seconds
        if func.overloadpacket in flop_registry:
            row[1] += flop_registry[func.overloadpacket](*args, **kwargs, out_val=out[0])
        if not func.is_view:
            tensors = {id(x): x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)}
            row[2] += sum(x.numel() * x.element_size() for x in tensors.values())
        self.own += time.perf_counter() - begin - seconds
        return out[0]


def works(data: Dataset, config: Config, n: int) -> dict[str, Callable[[], Any]]:
    """A step of training, and an update of n images with classifier-free guidance."""
    own = ours(data, config)
    return {
        f"training, batch of {config.batch_size}": own.step,
        f"sampling, {n} images": lambda: own.sample(n, 1),
    }


def kind(operator: str) -> str:
    """What an operator such as aten's convolution_backward is counted as."""
    return next(k for k, parts in KINDS.items() if any(part in operator for part in parts))


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a large copy reads and writes, the best of several."""
    a = torch.zeros(2**26, device=device)  # 256 MB: in no cache
    b = torch.empty_like(a)
    return 2 * 4 * a.numel() / min(duration(lambda: b.copy_(a), device) for _ in range(5))


def measure(
    works: dict[str, Callable[[], Any]], rounds: int, device: torch.device, peak: float
) -> list[Row]:
    """A row for each work and kind, of the round of median length.

    "between them" is what passes outside of operators and of the ledger: Python, autograd.
    "best_ms": FLOPs at the rate of a large matrix product, or bytes at that of a large copy,
    whichever takes longer. Of what lies in a cache, bytes take less.
    """
    rate, rows = bandwidth(device), []
    for name, work in works.items():
        work()
        found = []
        for _ in range(rounds):
            with Ledger(device) as ledger:
                whole = duration(work, device) - ledger.own
            inside = sum(seconds for seconds, _, _ in ledger.spent.values())
            spent = {k: ledger.spent[k] for k in KINDS} | {"between them": [whole - inside, 0, 0]}
            found.append((whole, spent))
        whole, spent = sorted(found, key=lambda round_: round_[0])[rounds // 2]
        rows += [
            {
                "work": name,
                "name": k,
                "ms": 1e3 * seconds,
                "share": seconds / whole,
                "MFLOPs": flops / 1e6,
                "MB": size / 1e6,
                "best_ms": 1e3 * max(flops / peak, size / rate),
                "copy_GB_per_s": rate / 1e9,
            }
            for k, (seconds, flops, size) in spent.items()
        ]
    return rows


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each kind that takes time, and beside its time what the machine leaves for it."""
    rows = rows[rows["ms"] > 0]
    return pd.DataFrame(
        {
            "work": rows["work"],
            "operators": rows["name"],
            "ms": rows["ms"].map("{:.1f}".format),
            "share": rows["share"].map("{:.0%}".format),
            "GFLOPs": (rows["MFLOPs"] / 1e3).map("{:.2f}".format),
            "MB": rows["MB"].map("{:.0f}".format),
            "at best, ms": rows["best_ms"].map("{:.1f}".format),
        }
    )
