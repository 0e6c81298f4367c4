"""What an experiment is, and how what its CSV file lacks is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from ddpm import ddim
from guidance.app.draw import Sampler
from guidance.app.guides import Guide
from train.evaluate.lab import Lab
from train.evaluate.results import Results, Row
from unet.device import choose_device

COMMON = ["data", "weights", "dtype", "steps", "n"]  # rows that have these alike are one sweep
EXACT = ("exact", "none", "float64")  # the first three of an experiment without networks


@dataclass(frozen=True)
class Experiment:
    """One question: what is varied, how one setting is measured, how all are shown."""

    key: tuple[str, ...]  # the columns that name a setting
    settings: Callable[[Any, Any], Mapping[Any, Any]]  # (flags, lab) -> {those columns: a guide}
    measure: Callable[[Any, Any, int, Any], list[Row]]  # (lab, the guide, seed, flags) -> rows
    table: Callable[[pd.DataFrame], pd.DataFrame]
    plot: Callable[[pd.DataFrame], Figure]
    classifier: bool = False  # whether it needs p_φ
    null: bool = True  # whether it needs ∅
    concepts: bool = False  # whether labels may overlap
    exact: bool = False  # whether it knows ε*: no networks, and measure's lab is None
    rare: Mapping[Any, int] = field(default_factory=dict)  # settings with so many times the seeds


def sweep(experiment: Experiment, flags: Any, results: Results) -> pd.DataFrame:
    """The rows of the sweep that flags ask for, once none of its jobs is missing."""
    results.expect([*COMMON, *experiment.key, "seed"])
    results.check_writable()
    lab, about = (None, EXACT) if experiment.exact else networks(experiment, flags)
    common: Row = dict(zip(COMMON, (*about, flags.steps, flags.n), strict=True))
    settings = experiment.settings(flags, lab)  # which may refuse the flags
    jobs = []
    for seed in range(flags.seeds * max([1, *experiment.rare.values()])):
        for setting, guide in settings.items():
            if seed < flags.seeds * experiment.rare.get(setting, 1):
                named = setting if isinstance(setting, tuple) else (setting,)
                key = dict(zip(experiment.key, named, strict=True))
                jobs.append(({**common, **key, "seed": seed}, guide, seed))
    missing = [job for job in jobs if results.matching(job[0]).empty]
    if len(missing) < len(jobs):
        print(f"{len(jobs) - len(missing)} of {len(jobs)} jobs are in {results.path} already")
    with tqdm(total=len(missing), unit="job", disable=None) as bar:
        while missing:
            row, guide, seed = missing[0]
            text = ", ".join(f"{k} {v}" for k, v in row.items() if k not in COMMON)
            bar.set_description(text, refresh=False)
            measured = experiment.measure(lab, guide, seed, flags)
            if not results.add([{**row, **numbers} for numbers in measured], unless=row):
                missing.reverse()  # another sweep comes from this end, and was faster
            results.read()
            left = [job for job in missing if results.matching(job[0]).empty]
            bar.update(len(missing) - len(left))
            missing = left
    results.arrange([row for row, *_ in jobs])
    return results.matching(common)


def networks(experiment: Experiment, flags: Any) -> tuple[Lab, tuple[str, str, str]]:
    """The lab of a sweep, and what its rows say of it."""
    device = choose_device(flags.device)
    lab = Lab(
        flags, device, batch_size=flags.batch_size, classifier=experiment.classifier,
        concepts=experiment.concepts,
    )  # fmt: skip
    if flags.steps > lab.models.schedule.T:
        raise ValueError(f"--steps must be at most T = {lab.models.schedule.T}, got {flags.steps}")
    lab.models.trained(0, *[lab.K] * experiment.null)
    return lab, (lab.data.name, lab.fingerprint, lab.dtype_name)


def last_sweep(results: Results) -> pd.DataFrame:
    """The rows that belong together with the last one. ValueError if there are none."""
    results.expect(COMMON)
    if results.rows.empty:
        raise ValueError(f"--plot: there is nothing in {results.path}")
    return results.matching(results.rows[COMMON].iloc[-1].to_dict())


def conditional(
    lab: Lab, guide: Guide, seed: int, flags: Any, sampler: Sampler | None = None
) -> tuple[Tensor, Tensor]:
    """flags.n samples, as many of each class, and those classes."""
    c = lab.labels(flags.n)
    return lab.draw(guide, c, seed, sampler or partial(ddim, steps=flags.steps)), c
