"""The rows of `python -m guidance`: what each is drawn with, and what is said of it."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from guidance.app import guides
from guidance.app.draw import Sampler, sampler_of, window
from guidance.app.guides import Guide
from guidance.app.models import Models
from guidance.classifier import classifier_mean_shift


class Row(NamedTuple):
    """One row of the picture: what its samples are drawn with, and what is said of it."""

    label: str
    positive: int
    guide: Guide
    sampler: Sampler


def rows_of(kind: str, flags: Any, models: Models) -> tuple[list[Row], str]:
    """The rows, one for each combination of the flags that take a list, and what they share."""
    swept = _swept(kind, flags, models.classes)
    names = {f.name: f.metadata["name"] or f"--{f.name.replace('_', '-')}" for f in fields(flags)}
    for key, values in swept.items():
        if not values:
            raise ValueError(f"{names[key]} must be a list of one value at least")
    if math.prod(map(len, swept.values())) > 1000:
        lists = ", ".join(name for key, name in names.items() if key in swept)
        raise ValueError(f"a picture has at most 1000 rows: the lists of {lists} make more")
    shown = [key for key in swept if len(swept[key]) > 1] or ["positive"]
    rows = []
    for values in itertools.product(*swept.values()):
        row = dict(zip(swept, values, strict=True))
        label = ", ".join(_describe(key, row[key], models, flags.steps) for key in shown)
        guide, sampler = _guide(kind, flags, row, models), _sampler(flags, row, models)
        rows.append(Row(label, row["positive"], guide, sampler))
    fixed = [
        _describe(key, values[0], models, flags.steps)
        for key, values in swept.items()
        if key not in shown
    ]
    if "positive" not in shown:
        fixed[0] = f"class {fixed[0]}"
    how = {
        "ddim": f"DDIM, η = {flags.eta:g}",
        "dpm-solver": "DPM-Solver++ (2M)",
        "ancestral": f"ancestral, {flags.variance}",
    }[flags.sampler]
    return rows, ", ".join([*fixed, f"{flags.steps} steps of {how}", f"seed {flags.seed}"])


def _sampler(flags: Any, row: dict[str, Any], models: Models) -> Sampler:
    shift = None
    if getattr(flags, "mean_shift", False):
        shift = classifier_mean_shift(models.log_prob(row["positive"]), row["scale"])
    return sampler_of(flags, shift)


def _guide(kind: str, flags: Any, row: dict[str, Any], models: Models) -> Guide:
    """The guidance of one row, in the project's own sentence."""
    if kind == "classifier":
        if row["positive"] == models.K:
            raise ValueError("--class must name a class for classifier guidance, got ∅")
        if flags.mean_shift:  # the sampler's, which moves the mean
            return guides.none() if flags.conditional else guides.unconditional()
        return guides.classifier(row["scale"], conditional=flags.conditional)
    if kind == "none":
        return guides.none()
    steps = row.get("start_step", 0), row.get("stop_step")
    start, stop = window(models.schedule.T, flags.steps, *steps)
    if kind == "negative":
        return guides.negative(row["negative"], row["w"], start=start, stop=stop)
    return guides.classifier_free(row["w"], start=start, stop=stop)


def _swept(kind: str, flags: Any, names: list[str]) -> dict[str, Sequence[Any]]:
    """The values of each flag that takes a list; the rows are their product."""
    K = len(names)
    every = [K] if kind == "negative" else list(range(K))
    swept: dict[str, Sequence[Any]] = {
        "positive": _classes("--class", flags.positive, names) if flags.positive else every
    }
    if kind == "negative":
        swept["negative"] = _classes("--negative", flags.negative, names)
    interval = kind == "classifier-free" and (flags.start_step, flags.stop_step) != ((0,), ())
    if kind == "negative" or interval:
        swept["start_step"], swept["stop_step"] = flags.start_step, flags.stop_step or (None,)
    return swept | {key: getattr(flags, key) for key in ("w", "scale") if hasattr(flags, key)}


def title(kind: str, flags: Any) -> str:
    """What stands above the rows."""
    if kind == "classifier":
        formula = "Alg. 1" if flags.mean_shift else "Eq. 14"
        return f"classifier guidance of {'ε(c)' if flags.conditional else 'ε(∅)'}, ADM {formula}"
    return "no guidance" if kind == "none" else f"{kind} guidance"


def _describe(key: str, value: Any, models: Models, steps: int) -> str:
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
