"""`python -m train.evaluate`: what the samples of a trained ε_θ are worth, in numbers."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from guidance.app.draw import check_eta, sampler_of
from guidance.app.flags import Parser, add_flags, flag, read
from guidance.app.guides import classifier_free, none
from guidance.app.samples import check_free, names_of, save_samples
from train import ranks, torchrun
from train.evaluate import cas
from train.evaluate.bound import print_bound
from train.evaluate.lab import Lab, LabFlags
from train.evaluate.metrics import NAMES
from unet.files import check_writable


@dataclass(frozen=True, kw_only=True)
class Flags(LabFlags):
    """The flags of `python -m train.evaluate`."""

    weights: str = flag(text="e.g. weights/mnist", metavar="DIR", path=True)
    n: int = flag(500, "samples, as many of each class", least=1, most=1_000_000)
    w: float = flag(1.0, "classifier-free guidance's w: 0 is off")
    sampler: str = flag("ddim", "which sampler", choices=("ddim", "dpm-solver", "ancestral"))
    steps: int = flag(50, "updates of the sampler", least=1, most=1_000_000)
    eta: float = flag(0.0, "DDIM's η: 0 is deterministic", least=0)
    variance: str = flag("posterior", "ancestral's σ²", choices=("beta", "posterior"))
    seed: int = flag(0, "of the samples and the noise", least=0, most=2**62 - 1)
    cas: bool = flag(False, "classification accuracy score as well")
    features: str = flag(
        "judge",
        "inception: the real FID as well, for which torch-fidelity downloads its network",
        choices=("judge", "inception"),
    )
    bound: int = flag(
        0,
        "the variational bound of N held-out images as well (T passes for each), 0 for none",
        least=0,
        metavar="N",
    )
    out: str = flag(
        "runs/results/evaluation.csv", "file that gets a new line", metavar="CSV", path=True
    )
    save: str = flag(
        "", "the samples as well: a PNG each, and samples.npz for FID tools", metavar="DIR",
        path=True,
    )  # fmt: skip
    batch_size: int = flag(100, "images at once", least=1, most=1_000_000)


def parser() -> Parser:
    """The command line."""
    p = Parser(
        prog="python -m train.evaluate",
        description="Draw class-conditional samples and measure them; every run adds a line to "
        "a CSV file.",
    )
    add_flags(p, Flags)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    return torchrun.command(parser(), arguments, evaluate)


def evaluate(given: argparse.Namespace) -> int:
    """Draw, on every rank; measure, print, and add a line to the CSV file on the first."""
    from train.evaluate.results import Results, Row  # which needs pandas

    flags = read(Flags, vars(given))
    check_eta(flags)
    device = ranks.join(flags.device)
    lab = ranks.first(lambda: Lab(flags, device, batch_size=flags.batch_size))
    if flags.bound and not 2 <= flags.bound <= len(lab.data.test_images):
        raise ValueError(f"--bound must be 0 or 2..{len(lab.data.test_images)}, got {flags.bound}")
    if flags.steps > lab.models.schedule.T:
        raise ValueError(f"--steps must be at most T = {lab.models.schedule.T}, got {flags.steps}")
    c, guide = lab.labels(flags.n), classifier_free(flags.w) if flags.w else none()
    guide(lab.models, c.to(device))  # or it refuses, before the first update
    results = Results(Path(flags.out))
    results.expect(["dtype", "bound"])
    results.check_writable()
    if flags.save:
        check_free(Path(flags.save))
        check_writable(Path(flags.save))
    fid = inception_distance() if flags.features == "inception" and ranks.rank() == 0 else None
    x = lab.draw(guide, c, flags.seed, sampler_of(flags))
    if not ranks.leave():
        return 0
    if flags.save:  # before anything is measured: that may take long, or fail
        names = names_of(lab.models.classes, flags.n // lab.K)
        save_samples(Path(flags.save), x, c, names)
        print(f"{Path(flags.save) / 'samples.npz'}, and each of its {len(c)} images as a PNG")
    ancestral = flags.sampler == "ancestral"
    row: Row = {
        "data": lab.data.name,
        "weights": lab.fingerprint,
        "dtype": lab.dtype_name,
        "w": flags.w,
        "sampler": f"{flags.sampler}, {flags.variance}" if ancestral else flags.sampler,
        "eta": flags.eta,
        "steps": flags.steps,
        "n": flags.n,
        "seed": flags.seed,
    }
    print(", ".join(f"{k} {v}" for k, v in row.items()))
    numbers = lab.measure(x, c, flags.seed)
    numbers["class_accuracy_real"] = lab.accuracy_on_real()
    numbers |= dict.fromkeys(("cas", "cas_real", "fid"), math.nan)
    if flags.cas:
        numbers |= cas.scores(lab, x, c, flags.seed)
    if fid is not None:
        numbers["fid"] = fid(lab, x)
    print_numbers(numbers)
    bound = dict.fromkeys(("beta", "posterior"), math.nan)
    if flags.bound:
        bound = print_bound(lab, flags.bound, flags.seed)
    row |= {**numbers, "bound_n": flags.bound, "bound": bound["beta"]}
    results.add([{**row, "bound_posterior": bound["posterior"]}])
    print(flags.out)
    return 0


def print_numbers(numbers: dict[str, float]) -> None:
    """A line for each number that was measured, with what as many real images get beside it."""
    print(f"{'':30} {'samples':>9} {'as many real':>13}")
    for key, name in NAMES.items():
        if not math.isnan(numbers[key]):
            real = f"{numbers[f'{key}_real']:13.4f}" if f"{key}_real" in numbers else ""
            print(f"{name:30} {numbers[key]:9.4f} {real}".rstrip())


def inception_distance() -> Callable[[Lab, Tensor], float]:
    """The real FID against all test images. ValueError if its network can't be had."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    try:
        metric = FrechetInceptionDistance(feature=2048)
    except (ImportError, OSError) as error:
        raise ValueError(
            "--features inception needs torch-fidelity (pip install torch-fidelity) and a network "
            f"from which it downloads Inception's weights: {str(error).splitlines()[0]}"
        ) from error

    def distance(lab: Lab, x: Tensor) -> float:
        metric.to(lab.device)
        for images, real in ((lab.data.scale(lab.data.test_images), True), (x, False)):
            for part in torch.split(images, lab.batch_size):
                whole = ((part.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
                metric.update(whole.expand(-1, 3, -1, -1).to(lab.device), real=real)
        return float(metric.compute())

    return distance


if __name__ == "__main__":
    sys.exit(main())
