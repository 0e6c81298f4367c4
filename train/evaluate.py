"""`python -m train.evaluate`: the variational bound of a trained ε_θ on held-out images."""

import argparse
import math
import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from ddpm import variational_bound
from guidance.command import Parser, choose_device, run
from guidance.models import load_models
from train.data import load_data


def parser() -> Parser:
    """The flags of `python -m train.evaluate`."""
    p = Parser(
        prog="python -m train.evaluate",
        description="The variational bound on −log p_θ(x_0|c) of held-out images (DDPM Eq. 5).",
    )
    p.add_argument("--weights", required=True, metavar="DIR", help="e.g. runs/digits")
    p.add_argument("--data-dir", default="data", help="where torchvision's data sets are")
    p.add_argument("--n", type=int, default=100, help="held-out images (default 100)")
    p.add_argument("--batch-size", type=int, default=100, help="images at once (default 100)")
    p.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default auto)")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    args = parser().parse_args(arguments)
    return run("python -m train.evaluate", lambda: evaluate(args))


def evaluate(args: argparse.Namespace) -> int:
    """Print the bound for σ² = β_t and β̃_t, in bits/dim with its 95 % interval over images."""
    device = choose_device(args.device)
    models = load_models(args.weights, device=device)
    data = load_data(models.info.get("data", ""), args.data_dir).to(device)
    if not 2 <= args.n <= len(data.test_images):
        raise ValueError(f"--n must lie in 2..{len(data.test_images)}, got {args.n}")
    if args.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {args.batch_size}")
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"--seed must lie in 0..2^63−1, got {args.seed}")
    x_0, c = data.scale(data.test_images[: args.n]), data.test_labels[: args.n]
    print(
        f"{args.n} held-out images of {data.name}; bits/dim, ± is the 95 % interval over images; "
        f"{data.levels} grey levels cost {math.log2(data.levels):.3f} without a model"
    )
    print(f"{'σ²':4} {'L_T':>9} {'L_1..L_{T-1}':>13} {'L_0':>7} {'L':>7}")
    for name, variance in (("β_t", "beta"), ("β̃_t", "posterior")):
        terms = []  # of every image: L_T, the sum of L_1 … L_{T−1}, L_0
        generator = torch.Generator().manual_seed(args.seed)
        batches = list(zip(x_0.split(args.batch_size), c.split(args.batch_size), strict=True))
        passes = models.schedule.T * len(batches)
        with tqdm(total=passes, desc=name, leave=False, unit="pass", disable=None) as bar:
            for x, labels in batches:

                def eps(
                    x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor = labels
                ) -> torch.Tensor:
                    bar.update()
                    return models.unet(x_t, t, labels)

                bound = variational_bound(
                    models.schedule,
                    eps,
                    x,
                    variance=variance,
                    levels=data.levels,
                    generator=generator,
                )
                terms.append(torch.stack([bound.L_T, bound.L_t.sum(1), bound.L_0], dim=1).cpu())
        each = torch.cat(terms)  # (n, 3)
        L_T, middle, L_0 = each.mean(0).tolist()
        total = each.sum(1)
        half = 1.96 * float(total.std()) / math.sqrt(args.n)
        width = 4 + (len(name) - 3)  # the tilde is a character of its own, but takes no room
        print(
            f"{name:{width}} {L_T:9.6f} {middle:13.4f} {L_0:7.4f} {float(total.mean()):7.4f} "
            f"± {half:.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
