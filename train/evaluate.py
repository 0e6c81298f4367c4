"""`python -m train.evaluate`: what the samples of a trained ε_θ are worth, in numbers."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm import variational_bound
from guidance.command import Parser, check_counts
from guidance.sampling import Request, Sampler
from train import launch, ranks
from train.experiments.guided import COLUMNS
from train.experiments.results import Results, Row
from train.lab import Lab

NAMES = COLUMNS | {"fid": "FID (Inception)"}


def parser() -> Parser:
    """The flags of `python -m train.evaluate`."""
    p = Parser(
        prog="python -m train.evaluate",
        description="Draw class-conditional samples and measure them; every run adds a line to "
        "a CSV file.",
    )
    p.add_argument("--weights", required=True, metavar="DIR", help="e.g. weights/mnist")
    p.add_argument("--data-dir", default="data", help="where torchvision's data sets are")
    p.add_argument("--n", type=int, default=500, help="samples, as many of each class (500)")
    p.add_argument("--w", type=float, default=1.0, help="classifier-free guidance's w (1)")
    p.add_argument("--sampler", choices=["ddim", "ancestral"], default="ddim")
    p.add_argument("--steps", type=int, default=50, help="updates of the sampler (50)")
    p.add_argument("--eta", type=float, default=0.0, help="DDIM's η (0)")
    p.add_argument("--variance", choices=["beta", "posterior"], default="posterior")
    p.add_argument("--seed", type=int, default=0, help="of the samples and the noise (0)")
    p.add_argument("--cas", action="store_true", help="classification accuracy score as well")
    p.add_argument(
        "--features",
        choices=["judge", "inception"],
        default="judge",
        help="inception: the real FID as well, for which torch-fidelity downloads its network",
    )
    p.add_argument(
        "--bound",
        type=int,
        default=0,
        metavar="N",
        help="the variational bound of N held-out images as well (0: not; T passes for each)",
    )
    p.add_argument("--out", default="runs/results/evaluation.csv", metavar="CSV")
    p.add_argument("--batch-size", type=int, default=100, help="images at once (100)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default auto)")
    p.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    p.add_argument(
        "--compile",
        default="auto",
        choices=["auto", "on", "off"],
        help="torch.compile for ε_θ: faster samples, a minute later (auto: on CUDA)",
    )
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    return launch.run(parser(), arguments, evaluate)


def evaluate(args: argparse.Namespace) -> int:
    """Draw, on every rank; measure, print, and add a line to the CSV file on the first."""
    check_counts(args, 1_000_000, "n", "steps", "batch_size")
    if not 0 <= args.seed < 2**62:
        raise ValueError(f"--seed must lie in 0..2^62−1, got {args.seed}")
    args.device = str(launch.join(args.device))
    lab = ranks.first(lambda: Lab(args, classifier=False))
    if not args.bound == 0 and not 2 <= args.bound <= len(lab.data.test_images):
        raise ValueError(f"--bound must be 0 or 2..{len(lab.data.test_images)}, got {args.bound}")
    results = Results(Path(args.out))
    results.expect(["dtype", "bound"])
    inception = _inception() if args.features == "inception" and ranks.rank() == 0 else None
    c = lab.balanced(args.n)
    request = Request("classifier-free", 0, w=args.w) if args.w else Request("none", 0)
    sampler = Sampler(args.sampler, args.steps, args.eta, args.variance)
    x = lab.draw(request, sampler, c, args.seed, "samples")
    if not launch.leave():
        return 0
    row: Row = {
        "data": lab.data.name,
        "weights": lab.fingerprint,
        "dtype": str(lab.dtype or torch.float32).removeprefix("torch."),
        "w": args.w,
        "sampler": args.sampler if args.sampler == "ddim" else f"ancestral, {args.variance}",
        "eta": args.eta,
        "steps": args.steps,
        "n": args.n,
        "seed": args.seed,
    }
    print(", ".join(f"{k} {v}" for k, v in row.items()))
    numbers = lab.measure(x, c, args.seed)
    numbers["class_accuracy_real"] = lab.judged_on_real()
    numbers |= lab.cas(x, c, args.seed) if args.cas else {"cas": math.nan, "cas_real": math.nan}
    numbers["fid"] = math.nan if inception is None else inception(lab, x)
    print(f"{'':30} {'samples':>9} {'as many real':>13}")
    for key, name in NAMES.items():
        if not math.isnan(numbers[key]):
            real = f"{numbers[f'{key}_real']:13.4f}" if f"{key}_real" in numbers else ""
            print(f"{name:30} {numbers[key]:9.4f} {real}".rstrip())
    bounds = {"beta": math.nan, "posterior": math.nan}
    if args.bound:
        bounds = bound(lab, args.bound, args.seed)
    of = {"bound_n": args.bound, "bound": bounds["beta"], "bound_posterior": bounds["posterior"]}
    results.add([{**row, **numbers, **of}])
    print(args.out)
    return 0


def bound(lab: Lab, n: int, seed: int) -> dict[str, float]:
    """The bound for σ² = β_t and β̃_t in bits/dim, printed with its 95 % interval over images."""
    schedule, data = lab.models.schedule, lab.data
    x_0 = data.scale(data.test_images[:n]).to(lab.device)
    c = data.test_labels[:n].to(lab.device)
    print(
        f"{n} held-out images of {data.name}; bits/dim, ± is the 95 % interval over images; "
        f"{data.levels} grey levels cost {math.log2(data.levels):.3f} without a model"
    )
    means = {}
    print(f"{'σ²':4} {'L_T':>9} {'L_1..L_{T-1}':>13} {'L_0':>7} {'L':>7}")
    for name, variance in (("β_t", "beta"), ("β̃_t", "posterior")):
        terms = []  # of every image: L_T, the sum of L_1 … L_{T−1}, L_0
        generator = torch.Generator().manual_seed(seed)
        batches = list(zip(x_0.split(lab.batch_size), c.split(lab.batch_size), strict=True))
        passes = schedule.T * len(batches)
        with tqdm(total=passes, desc=name, leave=False, unit="pass", disable=None) as bar:
            for x, labels in batches:

                def eps(x_t: Tensor, t: Tensor, labels: Tensor = labels) -> Tensor:
                    bar.update()
                    return lab.models.unet(x_t, t, labels)

                parts = variational_bound(
                    schedule, eps, x, variance=variance, levels=data.levels, generator=generator
                )
                terms.append(torch.stack([parts.L_T, parts.L_t.sum(1), parts.L_0], dim=1).cpu())
        each = torch.cat(terms)  # (n, 3)
        L_T, middle, L_0 = each.mean(0).tolist()
        total = each.sum(1)
        half = 1.96 * float(total.std()) / math.sqrt(n)
        means[variance] = float(total.mean())
        width = 4 + (len(name) - 3)  # the tilde is a character of its own, but takes no room
        print(
            f"{name:{width}} {L_T:9.6f} {middle:13.4f} {L_0:7.4f} {float(total.mean()):7.4f} "
            f"± {half:.4f}"
        )
    return means


def _inception() -> Callable[[Lab, Tensor], float]:
    """The real FID against all test images. ValueError if its network can't be had."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    try:
        metric = FrechetInceptionDistance(feature=2048)
    except (ImportError, OSError) as error:
        raise ValueError(
            "--features inception needs torch-fidelity (pip install torch-fidelity) and a network "
            f"from which it downloads Inception's weights: {str(error).splitlines()[0]}"
        ) from error

    def fid(lab: Lab, x: Tensor) -> float:
        metric.to(lab.device)
        for images, real in ((lab.data.scale(lab.data.test_images), True), (x, False)):
            for part in images.split(lab.batch_size):
                whole = ((part.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
                metric.update(whole.expand(-1, 3, -1, -1).to(lab.device), real=real)
        return float(metric.compute())

    return fid


if __name__ == "__main__":
    sys.exit(main())
