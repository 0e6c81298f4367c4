"""Pictures from trained weights: `python -m guidance none|classifier|classifier-free|negative`."""

import argparse
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guidance.command import Parser, check_counts, choose_device, floats, integers, run

KINDS = {
    "none": "sample from ε_θ(x_t, c) as it is (DDPM Alg. 2, DDIM Eq. 12)",
    "classifier": "follow the gradient of the noisy classifier (ADM Eq. 14)",
    "classifier-free": "extrapolate from ∅ through the class (CFG Eq. 6)",
    "negative": "put a negative class in the place of ∅ (NegPrompt Eq. 5)",
}


def parser() -> Parser:
    """The command line. Flags that take a list draw one row for each value, from the same noise."""
    p = Parser(
        prog="python -m guidance",
        description="Draw a labelled grid of samples from trained weights, with one guidance.",
    )
    kinds = p.add_subparsers(dest="kind", required=True, metavar="|".join(KINDS))
    for kind, text in KINDS.items():
        k = kinds.add_parser(kind, help=text, description=text[0].upper() + text[1:] + ".")
        k.add_argument("--weights", required=True, metavar="DIR", help="e.g. runs/digits")
        default = "null" if kind == "negative" else "every class"
        k.add_argument(
            "--class",
            dest="positive",
            metavar="C[,C…]",
            help=f"class names or numbers; null or K is ∅ (default: {default})",
        )
        if kind == "negative":
            k.add_argument("--negative", required=True, metavar="C[,C…]", help="what to avoid")
        if kind in ("classifier-free", "negative"):
            k.add_argument(
                "--w",
                type=floats,
                default=[2.0],
                metavar="W[,W…]",
                help="Ho & Salimans' w: 0 is off; guidance_scale is w + 1 (default 2)",
            )
        if kind == "negative":
            k.add_argument(
                "--start-step",
                type=integers,
                default=[0],
                metavar="K[,K…]",
                help="first update with the negative class: 0 (default) always, STEPS never",
            )
            k.add_argument(
                "--stop-step",
                type=integers,
                default=[None],
                metavar="K[,K…]",
                help="first update without it again (default: STEPS, it stays to the end)",
            )
        if kind == "classifier":
            k.add_argument(
                "--scale",
                type=floats,
                default=[3.0],
                metavar="S[,S…]",
                help="ADM's scale s: 0 is off (default 3)",
            )
            k.add_argument("--conditional", action="store_true", help="guide ε(c) rather than ε(∅)")
            k.add_argument(
                "--mean-shift",
                action="store_true",
                help="ADM Alg. 1 rather than Eq. 14; needs --sampler ancestral",
            )
        k.add_argument("--sampler", choices=["ddim", "ancestral"], default="ddim")
        k.add_argument("--steps", type=int, default=50, help="updates, 1..T (default 50)")
        k.add_argument("--eta", type=float, default=0.0, help="DDIM's η: 0 deterministic (default)")
        k.add_argument(
            "--variance",
            choices=["beta", "posterior"],
            default="posterior",
            help="ancestral's σ²: β_t or β̃_t (default posterior; beta suits all T steps)",
        )
        k.add_argument("--seed", type=int, default=0, help="of x_T and of the sampler (default 0)")
        k.add_argument("--n", type=int, default=10, help="images a row (default 10)")
        k.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
        k.add_argument("--out", help="the picture (default runs/guidance-KIND.png)")
        k.add_argument("--gif", action="store_true", help="write the reverse process beside it")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    args = parser().parse_args(arguments)
    return run("python -m guidance", lambda: draw(args))


def draw(args: argparse.Namespace) -> int:
    """Sample row by row and write the picture. ValueError or OSError with one clear line."""
    import torch

    from guidance.models import load_models
    from guidance.pictures import Panel, join_rows, save_gif, save_panels
    from guidance.sampling import Request, Sampler, sample

    out = Path(args.out or f"runs/guidance-{args.kind}.png")
    if out.suffix != ".png":
        raise ValueError(f"--out must end in .png, got {out}")
    check_counts(args, 1000, "n")
    if not 0 <= args.seed < 2**63 - 1:
        raise ValueError(f"--seed must lie in 0..2^63−2, got {args.seed}")
    device = choose_device(args.device)
    begin = time.perf_counter()
    models = load_models(args.weights, classifier=args.kind == "classifier", device=device)
    names = [*models.classes, "∅"]
    sampler = Sampler(args.sampler, args.steps, args.eta, args.variance)

    swept = _swept(args, models.classes)
    if math.prod(map(len, swept.values())) > 1000:
        flags = ", ".join(_flag(key) for key in swept)
        raise ValueError(f"a picture has at most 1000 rows: the lists of {flags} make more")
    shown = [key for key in swept if len(swept[key]) > 1] or ["positive"]
    labels, processes = [], []
    for values in itertools.product(*swept.values()):
        row = dict(zip(swept, values, strict=True))
        request = Request(args.kind, **row, **_options(args))
        labels.append(", ".join(_describe(key, row[key], names, args.steps) for key in shown))
        generator = torch.Generator().manual_seed(args.seed)  # the same x_T and noise for each row
        x_T = models.noise(args.n, generator)
        process = sample(models, request, sampler, x_T, generator)
        processes.append(list(process) if args.gif else [*deque(process, maxlen=1)])
    fixed = [_describe(key, row[key], names, args.steps) for key in swept if key not in shown]
    if "positive" not in shown:
        fixed[0] = f"class {fixed[0]}"
    how = f"DDIM, η = {args.eta:g}" if args.sampler == "ddim" else f"ancestral, {args.variance}"
    caption = ", ".join([*fixed, f"{args.steps} steps of {how}", f"seed {args.seed}"])
    finals = torch.stack([steps[-1].x for steps in processes])  # (R, n, C, H, W)
    save_panels(out, [Panel(_title(args), labels, finals)], caption)
    seconds = time.perf_counter() - begin
    print(f"{out}: {len(labels)} rows of {args.n} images in {seconds:.1f} s")
    if args.gif:
        save_gif(out.with_suffix(".gif"), join_rows(processes), len(labels))
        print(out.with_suffix(".gif"))
    return 0


def _swept(args: argparse.Namespace, names: list[str]) -> dict[str, Sequence[Any]]:
    """The values of each flag that takes a list; the rows are their product."""
    every = list(range(len(names)))
    if args.positive is not None:
        positive = _classes("--class", args.positive, names)
    else:
        positive = [len(every)] if args.kind == "negative" else every
    swept: dict[str, Sequence[Any]] = {"positive": positive}
    if args.kind == "negative":
        swept["negative"] = _classes("--negative", args.negative, names)
        swept["start_step"], swept["stop_step"] = args.start_step, args.stop_step
    for key in ("w", "scale"):
        if key in args:
            swept[key] = getattr(args, key)
    return swept


def _flag(key: str) -> str:
    return "--class" if key == "positive" else f"--{key.replace('_', '-')}"


def _options(args: argparse.Namespace) -> dict[str, bool]:
    return {key: getattr(args, key) for key in ("conditional", "mean_shift") if key in args}


def _title(args: argparse.Namespace) -> str:
    if args.kind == "classifier":
        formula = "Alg. 1" if args.mean_shift else "Eq. 14"
        return f"classifier guidance of {'ε(c)' if args.conditional else 'ε(∅)'}, ADM {formula}"
    return {
        "none": "no guidance",
        "classifier-free": "classifier-free guidance",
        "negative": "negative guidance",
    }[args.kind]


def _describe(key: str, value: Any, names: list[str], steps: int) -> str:
    if key == "positive":
        return names[value]
    if key == "negative":
        return f"−{names[value]}"
    if key == "start_step":
        return f"from step {value}" if value < steps else "never"
    if key == "stop_step":
        return "to the end" if value is None else f"to step {value}"
    return f"{key} = {value:g}"


def _classes(flag: str, text: str, names: list[str]) -> list[int]:
    """Class numbers from names or numbers with commas between; ∅ = K."""
    found, K = [], len(names)
    for word in (part.strip() for part in text.split(",")):
        if word in names:
            found.append(names.index(word))
        elif word in ("null", "∅"):
            found.append(K)
        elif word.isdecimal() and int(word) <= K:
            found.append(int(word))
        else:
            raise ValueError(
                f"{flag} must be among {', '.join(names)}, or a number in 0..{K} ({K} is ∅), "
                f"got {word!r}"
            )
    return found


if __name__ == "__main__":
    sys.exit(main())
