"""Pictures from trained weights: `python -m guidance none|classifier|classifier-free|negative`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from guidance.app.flags import Parser, add_flags, flag, read, run

W = "Ho & Salimans' w: 0 is off; guidance_scale is w + 1"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The flags of every kind; those that take a list draw a row for each value."""

    weights: str = flag(text="e.g. runs/digits, or a U-Net's file in it", metavar="DIR", path=True)
    positive: str = flag("", "class names or numbers; null or K is ∅ (default: every class, null "
                         "for negative)", name="--class", metavar="C[,C…]")  # fmt: skip
    sampler: str = flag("ddim", "which sampler", choices=("ddim", "dpm-solver", "ancestral"))
    steps: int = flag(50, "updates, 1..T", least=1)
    eta: float = flag(0.0, "DDIM's η: 0 is deterministic", least=0)
    variance: str = flag("posterior", "ancestral's σ²: β_t or β̃_t; beta suits all T steps",
                         choices=("beta", "posterior"))  # fmt: skip
    seed: int = flag(0, "of x_T and of the sampler", least=0, most=2**63 - 2)
    n: int = flag(10, "images a row", least=1, most=1000)
    batch_size: int = flag(100, "images at once; the pictures stay the same", least=1)
    device: str = flag("auto", "auto, cpu, cuda, mps")
    out: str = flag("", "the picture (default: runs/guidance-KIND.png, or -2.png, -3.png, … where "
                    "there is one)", metavar="PNG", path=True)  # fmt: skip
    gif: bool = flag(False, "write the reverse process beside it")
    save: str = flag("", "write each sample as a PNG, and all in samples.npz for FID tools",
                     metavar="DIR", path=True)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NoGuidance(Sampling):
    """sample from ε_θ(x_t, c) as it is (DDPM Alg. 2, DDIM Eq. 12)"""


@dataclass(frozen=True, kw_only=True)
class Classifier(Sampling):
    """follow the gradient of the noisy classifier (ADM Eq. 14)"""

    scale: tuple[float, ...] = flag((3.0,), "ADM's scale s: 0 is off", metavar="S[,S…]")
    conditional: bool = flag(False, "guide ε(c) rather than ε(∅)")
    mean_shift: bool = flag(False, "ADM Alg. 1 rather than Eq. 14; needs --sampler ancestral")


@dataclass(frozen=True, kw_only=True)
class ClassifierFree(Sampling):
    """extrapolate from ∅ through the class (CFG Eq. 6)"""

    w: tuple[float, ...] = flag((2.0,), W, metavar="W[,W…]")
    start_step: tuple[int, ...] = flag(
        (0,), "first update with guidance: 0 is always, STEPS never", metavar="K[,K…]"
    )
    stop_step: tuple[int, ...] = flag(
        (), "first update without it again (default: STEPS, it stays to the end)", metavar="K[,K…]"
    )


@dataclass(frozen=True, kw_only=True)
class Negative(Sampling):
    """put a negative class in the place of ∅ (NegPrompt Eq. 5)"""

    negative: str = flag(text="what to avoid", metavar="C[,C…]")
    start_step: tuple[int, ...] = flag(
        (0,), "first update with the negative class: 0 is always, STEPS never", metavar="K[,K…]"
    )
    stop_step: tuple[int, ...] = flag(
        (), "first update without it again (default: STEPS, it stays to the end)", metavar="K[,K…]"
    )
    w: tuple[float, ...] = flag((2.0,), W, metavar="W[,W…]")


KINDS: dict[str, type[Sampling]] = {
    "none": NoGuidance,
    "classifier": Classifier,
    "classifier-free": ClassifierFree,
    "negative": Negative,
}


def parser() -> Parser:
    """The command line. Flags that take a list draw one row for each value, from the same noise."""
    p = Parser(
        prog="python -m guidance",
        description="Draw a labelled grid of samples from trained weights, with one guidance.",
    )
    kinds = p.add_subparsers(dest="kind", required=True, metavar="|".join(KINDS))
    for kind, flags in KINDS.items():
        text = str(flags.__doc__)
        description = text[0].upper() + text[1:] + "."
        add_flags(kinds.add_parser(kind, help=text, description=description), flags)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    given = vars(parser().parse_args(arguments))
    kind = given.pop("kind")

    def command() -> int:
        flags = read(KINDS[kind], given)
        from guidance.app.command import draw_rows  # --help need not wait for torch

        return draw_rows(kind, flags)

    return run("python -m guidance", command, "a smaller --batch-size may do")


if __name__ == "__main__":
    sys.exit(main())
