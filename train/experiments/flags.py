"""The flags of `python -m train.experiments`."""

from dataclasses import dataclass

from guidance.app.flags import flag
from train.evaluate.lab import LabFlags


@dataclass(frozen=True, kw_only=True)
class OwnFlags:
    """Those of every experiment."""

    out: str = flag("runs/results", "directory of the CSV file and the plot", metavar="DIR",
                    path=True)  # fmt: skip
    n: int = flag(100, "samples a seed and setting", least=1, most=1_000_000)
    seeds: int = flag(2, "how many; 95 % intervals are over them", least=1, most=1000)
    steps: int = flag(20, "updates of the sampler", least=1, most=1_000_000)
    plot: bool = flag(False, "measure nothing: table and plot again")


@dataclass(frozen=True, kw_only=True)
class SweepFlags(OwnFlags, LabFlags):
    """Those of an experiment on trained networks."""


@dataclass(frozen=True, kw_only=True)
class SampleFlags(SweepFlags):
    """Those of an experiment that draws its samples in batches."""

    batch_size: int = flag(100, "images at once", least=1, most=1_000_000)


@dataclass(frozen=True, kw_only=True)
class PairFlags(SweepFlags):
    """Those of an experiment on all pairs of classes at once."""

    n: int = flag(90, "pairs of classes a seed and setting", least=1, most=1_000_000)

    @property
    def batch_size(self) -> int:
        """All at once."""
        return self.n


@dataclass(frozen=True, kw_only=True)
class WorldFlags(OwnFlags):
    """Those of an experiment without networks."""

    n: int = flag(5000, "samples a seed and world", least=1, most=1_000_000)
    seeds: int = flag(4, "how many; all are pooled", least=1, most=1000)
    steps: int = flag(50, "updates of the sampler", least=1, most=1000)
