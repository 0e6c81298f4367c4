"""Pictures from trained weights: `python -m guidance none|classifier|classifier-free|negative`."""

import functools
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidance.app.flags import Parser, add_flags, flag, read, run

if TYPE_CHECKING:  # --help need not wait for torch
    from guidance.app.guides import Guide
    from guidance.app.models import Models

W = "Ho & Salimans' w: 0 is off; guidance_scale is w + 1"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The flags of every kind; those that take a list draw a row for each value."""

    weights: str = flag(text="e.g. runs/digits", metavar="DIR")
    positive: str = flag("", "class names or numbers; null or K is ∅ (default: every class, null "
                         "for negative)", name="--class", metavar="C[,C…]")  # fmt: skip
    sampler: str = flag("ddim", "which sampler", choices=("ddim", "ancestral"))
    steps: int = flag(50, "updates, 1..T", least=1)
    eta: float = flag(0.0, "DDIM's η: 0 is deterministic", least=0)
    variance: str = flag("posterior", "ancestral's σ²: β_t or β̃_t; beta suits all T steps",
                         choices=("beta", "posterior"))  # fmt: skip
    seed: int = flag(0, "of x_T and of the sampler", least=0, most=2**63 - 2)
    n: int = flag(10, "images a row", least=1, most=1000)
    device: str = flag("auto", "auto, cpu, cuda, mps")
    out: str = flag("", "the picture (default: runs/guidance-KIND.png)")
    gif: bool = flag(False, "write the reverse process beside it")


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
    return run("python -m guidance", lambda: command(kind, read(KINDS[kind], given)))


def command(kind: str, flags: Any) -> int:
    """Sample row by row and write the picture. ValueError or OSError with one clear line."""
    import torch

    from ddpm import ancestral, ddim
    from guidance.app.models import load_models, unfinished
    from guidance.app.pictures import Panel, join_rows, save_gif, save_panels
    from guidance.classifier import classifier_mean_shift
    from unet.device import choose_device

    out = Path(flags.out or f"runs/guidance-{kind}.png")
    if out.suffix != ".png":
        raise ValueError(f"--out must end in .png, got {out}")
    mean_shift, ddim_chosen = getattr(flags, "mean_shift", False), flags.sampler == "ddim"
    if mean_shift and ddim_chosen:
        raise ValueError("--mean-shift needs --sampler ancestral, got ddim")
    if flags.eta and not ddim_chosen:
        raise ValueError(f"--eta needs --sampler ddim, got {flags.eta} with ancestral")
    begin = time.perf_counter()
    models = load_models(
        flags.weights, classifier=kind == "classifier", device=choose_device(flags.device)
    )
    if said := unfinished(models.info):
        print(said)
    if flags.steps > models.schedule.T:
        raise ValueError(f"--steps must lie in 1..{models.schedule.T} (T), got {flags.steps}")
    swept = _swept(flags, models.classes)
    if math.prod(map(len, swept.values())) > 1000:
        names = ", ".join(f.metadata["name"] or f"--{f.name.replace('_', '-')}"
                          for f in fields(flags) if f.name in swept)  # fmt: skip
        raise ValueError(f"a picture has at most 1000 rows: the lists of {names} make more")
    shown = [key for key in swept if len(swept[key]) > 1] or ["positive"]
    sampler = functools.partial(ddim, steps=flags.steps, eta=flags.eta)
    labels, processes = [], []
    for values in itertools.product(*swept.values()):
        row = dict(zip(swept, values, strict=True))
        guide = _guide(kind, flags, row, models)
        if not ddim_chosen:
            shift = None
            if mean_shift:
                shift = classifier_mean_shift(models.log_prob(row["positive"]), row["scale"])
            sampler = functools.partial(
                ancestral, steps=flags.steps, variance=flags.variance, shift=shift
            )
        labels.append(", ".join(_describe(key, row[key], models, flags.steps) for key in shown))
        generator = torch.Generator().manual_seed(flags.seed)  # the same x_T and noise for each row
        x_T = models.noise(flags.n, generator)
        c = torch.full((flags.n,), row["positive"], device=x_T.device)
        process = sampler(models.schedule, guide(models, c), x_T, generator=generator)
        processes.append(list(process) if flags.gif else [*deque(process, maxlen=1)])
    fixed = [_describe(key, row[key], models, flags.steps) for key in swept if key not in shown]
    if "positive" not in shown:
        fixed[0] = f"class {fixed[0]}"
    how = f"DDIM, η = {flags.eta:g}" if ddim_chosen else f"ancestral, {flags.variance}"
    caption = ", ".join([*fixed, f"{flags.steps} steps of {how}", f"seed {flags.seed}"])
    finals = torch.stack([steps[-1].x for steps in processes])  # (R, n, C, H, W)
    save_panels(out, [Panel(_title(kind, flags), labels, finals)], caption)
    seconds = time.perf_counter() - begin
    print(f"{out}: {len(labels)} rows of {flags.n} images in {seconds:.1f} s")
    if flags.gif:
        save_gif(out.with_suffix(".gif"), join_rows(processes), len(labels))
        print(out.with_suffix(".gif"))
    return 0


def _guide(kind: str, flags: Any, row: dict[str, Any], models: "Models") -> "Guide":
    """The guidance of one row, in the project's own sentence."""
    from guidance.app import guides
    from guidance.app.draw import window

    if kind == "classifier":
        if row["positive"] == models.K:
            raise ValueError("--class must name a class for classifier guidance, got ∅")
        if flags.mean_shift:  # the sampler's, which moves the mean
            return guides.none() if flags.conditional else lambda models, c: models.unet
        return guides.classifier(row["scale"], conditional=flags.conditional)
    if kind == "classifier-free":
        return guides.classifier_free(row["w"])
    if kind == "negative":
        T, S = models.schedule.T, flags.steps
        start, stop = window(T, S, row["start_step"], row["stop_step"])
        return guides.negative(row["negative"], row["w"], start=start, stop=stop)
    return guides.none()


def _swept(flags: Any, names: list[str]) -> dict[str, Sequence[Any]]:
    """The values of each flag that takes a list; the rows are their product."""
    K = len(names)
    every = [K] if isinstance(flags, Negative) else list(range(K))
    swept: dict[str, Sequence[Any]] = {
        "positive": _classes("--class", flags.positive, names) if flags.positive else every
    }
    if isinstance(flags, Negative):
        swept["negative"] = _classes("--negative", flags.negative, names)
        swept["start_step"], swept["stop_step"] = flags.start_step, flags.stop_step or (None,)
    return swept | {key: getattr(flags, key) for key in ("w", "scale") if hasattr(flags, key)}


def _title(kind: str, flags: Any) -> str:
    if isinstance(flags, Classifier):
        formula = "Alg. 1" if flags.mean_shift else "Eq. 14"
        return f"classifier guidance of {'ε(c)' if flags.conditional else 'ε(∅)'}, ADM {formula}"
    return "no guidance" if kind == "none" else f"{kind} guidance"


def _describe(key: str, value: Any, models: "Models", steps: int) -> str:
    names: list[str] = [*models.classes, "∅"]
    if key == "positive":
        return f"{names[value]}"
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
