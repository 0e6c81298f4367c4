"""The table of the exact worlds: claim × world, whether it holds, and the number that says so."""

from typing import Any

import numpy as np
import pandas as pd

from train.experiments.exact import LARGE, SMALL, W
from train.experiments.intervals import holm, over_images, show, sign_test, student, wilson

CHANCE = 0.3  # P(p₋) where the overlap is varied
STOP = 10  # the early window that the table shows
DETAIL = f"p₋ the smaller: δ₋ = {SMALL}, δ₊ = {LARGE}"
SCENE = f"p₋ the larger: δ₋ = {LARGE}, δ₊ = {SMALL}"
SIZES = {"p₋ the smaller": DETAIL, "p₋ the larger": SCENE}
LOOKS = {
    "two modes": "p₋ typically at +1.2, rarely at −1.5",
    "two modes, same side": "p₋ typically at +1.2, rarely at +2.7",
    "one mode": "p₋ at +1.2",
}
Line = dict[str, str]


def pooled(rows: pd.DataFrame, group: str, name: str, kind: str = "mean") -> pd.DataFrame:
    """mean, low, high over `at`: kind is "share" (Wilson), "mean" (of pictures) or "seeds"."""
    chosen = rows[(rows["group"] == group) & (rows["name"] == name)]
    groups = chosen.assign(n=chosen["of"], count=chosen["value"] * chosen["of"]).groupby("at")
    if kind == "seeds":
        return student(groups["value"])
    if kind == "mean":
        return over_images(groups, "value").assign(mean=groups["value"].mean())
    return wilson(groups["count"].sum().round(), groups["n"].sum())


def gains(rows: pd.DataFrame, group: str, w: float) -> pd.DataFrame:
    """Over the stop step: gained, lost, and Holm's p-value of McNemar's exact test of a gain."""
    chosen = rows[(rows["group"] == group) & (rows["name"] == f"p₋, w = {w:g}")]
    sums = chosen.groupby("at")[["gained", "lost"]].sum().astype(int)
    p = pd.Series([sign_test(*pair) for pair in sums.to_numpy().tolist()], sums.index)
    return sums.assign(p=holm(p))


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each claim in each world. The verdict is the interval's, not the reader's."""
    parts = (delay, waiting, separation, neutralisation, activation, inducing)
    there = set(rows["group"])
    return pd.DataFrame([line for part in parts for line in part(rows, there)])


def cells(claim: str, world: str, holds: Any, number: str, value: pd.Series) -> Line:
    """One line of the table."""
    verdict = {True: "holds", False: "does not"}.get(holds, str(holds))
    interval = show(*value[["mean", "low", "high"]])
    return {"claim": claim, "world": world.replace("|", "\\|"), "verdict": verdict,
            "number": number, "value (95 %)": interval}  # fmt: skip


def delay(rows: pd.DataFrame, there: set[str]) -> list[Line]:
    """Which pull peaks first, picture by picture."""
    found = []
    for group in [g for g in SIZES if g in there]:
        value = pooled(rows, group, "p₋ peaks after p₊").loc[0]
        number = "steps by which p₋'s pull peaks after p₊'s"
        found.append(cells("delayed effect", SIZES[group], value["low"] > 0, number, value))
    return found


def waiting(rows: pd.DataFrame, there: set[str]) -> list[Line]:
    """Whether p₋ may start after a quarter of the run."""
    found = []
    for group in [g for g in SIZES if g in there]:
        left = 100 * pooled(rows, group, "left", "share")
        k = max(k for k in left.index if k <= rows["steps"].iloc[0] / 4)
        number = f"% of p₋ left if it starts at step {k:g}"
        claim, value = "waiting is free", left.loc[k]
        found.append(cells(claim, SIZES[group], value["high"] < 5, number, value))
    return found


def separation(rows: pd.DataFrame, there: set[str]) -> list[Line]:
    """Whether the same d′ is critical at every separation."""
    if "separations" not in there:
        return []
    d = critical_d(rows)
    half = (d["high"] - d["low"]) / 2
    number = "d′ from which a start leaves half"
    same = bool(half < 0.1 * d["mean"])
    return [cells("one d′ is critical", "δ = 0.4, 0.8, 1.6, 3.2, 6.4", same, number, d)]


def critical_d(rows: pd.DataFrame) -> pd.Series:
    """d′ at the log-SNR from which half is left, each separation's mean a value for Student's t."""
    chosen = rows[(rows["group"] == "separations") & (rows["name"] == "a half left")]
    d = chosen["at"] / (0.01 + np.exp(-chosen["value"])) ** 0.5
    means = d.groupby(chosen["at"]).mean()
    return student(means.groupby(np.zeros(len(means)))).iloc[0]


def neutralisation(rows: pd.DataFrame, there: set[str]) -> list[Line]:
    """The sign of the cosine where p₊ and p₋ exclude each other, meet by chance, and where not."""
    if "overlaps" not in there:
        return []
    cosine, found = pooled(rows, "overlaps", "cosine"), list[Line]()
    least, most = cosine.index[0], cosine.index[-1]
    words = {least: "they exclude each other", CHANCE: "by chance", most: "p₊ has every p₋"}
    for r, word in words.items():
        value = cosine.loc[r]
        value = value.where(value.abs() > 1e-6, 0.0)  # what is left is rounding
        holds = value["low"] > 0 if value["mean"] else "neither"
        world, number = f"P(p₋|p₊) = {r:g}: {word}", "cosine of ε₊ − ε_∅ and ε₋ − ε_∅"
        found.append(cells("deletion by neutralisation", world, holds, number, value))
    return found


def activation(rows: pd.DataFrame, there: set[str]) -> list[Line]:
    """Whether more pictures gain p₋ than lose it, by McNemar's test with Holm's correction."""
    found = []
    settings = [("two modes", W), ("two modes", 4), ("two modes, same side", W), ("one mode", W)]
    for group, w in [(g, w) for g, w in settings if g in there]:
        change, share = gains(rows, group, w), pooled(rows, group, f"p₋, w = {w:g}", "share")
        k = max(k for k in change.index if k <= STOP)
        gained, lost, p = change.loc[k]
        plain = 100 * pooled(rows, group, "p₋", "share").loc[0, "mean"]
        number = (f"% with p₋ after {k:g} steps of it; {plain:.2f} without; gained {gained:.0f}, "
                  f"lost {lost:.0f}, p = {p:.2g}")  # fmt: skip
        world = f"{LOOKS[group]}; w = {w:g}"
        found.append(cells("reverse activation", world, p < 0.05, number, 100 * share.loc[k]))
    return found


def inducing(rows: pd.DataFrame, there: set[str]) -> list[Line]:
    """Whether the positive branch answers the push."""
    found = []
    for group in [g for g in LOOKS if g in there]:
        value = pooled(rows, group, "D^(t)")
        k = min(STOP, max(value.index))
        number = f"D^(t) at step {k:g}"
        found.append(
            cells("D^(t) > 0", LOOKS[group], value.loc[k, "low"] > 0, number, value.loc[k])
        )
    return found
