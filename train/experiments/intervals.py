"""Means of measured rows with their 95 % intervals: Wilson's of counted shares, else Student's t.

A share is counted where each image is a trial of its own. A classification accuracy score is none:
a fresh network for each seed is what makes it vary, far more than the images that it reads.
"""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from scipy.stats import binomtest, norm
from scipy.stats import t as student_t

from train.data import SETS

Z = norm.ppf(0.975)  # 1.96
# Held out; of one's own pictures unknown
TEST_IMAGES = {
    "digits": 360,
    **dict.fromkeys(("scenes", *SETS), 10_000),
}


def summarise(rows: pd.DataFrame, by: list[str], columns: Iterable[str]) -> pd.DataFrame:
    """For each group of rows, mean, low and high of each column: the columns (column, "mean") ….

    The images behind a share are pooled over the group's rows; of other columns each row, a seed's,
    is one value.
    """
    keys, found = [rows[k] for k in by], {}
    for column in columns:
        n = counted(rows, column)
        if n is None:
            found[column] = student(rows.groupby(by, sort=False)[column])
        else:
            pooled = pd.DataFrame({"count": (rows[column] * n).round(), "n": n})
            pooled = pooled.groupby(keys, sort=False).sum()
            found[column] = wilson(pooled["count"], pooled["n"])
    return pd.concat(found, axis=1)


def counted(rows: pd.DataFrame, column: str) -> Any:
    """Of how many images each row's share is one; None if it is no share, or of unknown ones."""
    test = rows["data"].map(TEST_IMAGES)
    if column.startswith(("recall", "cas")) and test.isna().any():
        return None
    return {
        "class_accuracy": rows["n"],
        "precision": rows["n"],
        "recall": rows["n"].clip(upper=test),  # of so many real test images
    }.get(column.removesuffix("_real"))


def student(groups: Any) -> pd.DataFrame:
    """x̄ ± t_{0.975}(n−1)·s/√n of each group; one value alone has no interval."""
    n, mean = groups.count(), groups.mean()
    return around(mean, student_t.ppf(0.975, n - 1) * groups.std() / n**0.5)


def wilson(count: Any, n: Any) -> pd.DataFrame:
    """The p with |count/n − p| ≤ z·√(p(1−p)/n) (Wilson 1927): a width at 0 and 1 as well."""
    share = count / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * (share * (1 - share) / n + (Z / (2 * n)) ** 2) ** 0.5 / (1 + Z**2 / n)
    return around(centre, half).clip(0, 1).assign(mean=share)  # 0 may come out as −1e−18


def over_images(groups: Any, column: str) -> pd.DataFrame:
    """Mean ± 1.96·s/√n over the images of all rows, each row holding its own mean and _sd."""
    variance = groups[f"{column}_sd"].agg(lambda sd: (sd**2).mean())
    return around(groups[column].mean(), 1.96 * (variance / groups["n"].sum()) ** 0.5)


def sign_test(gained: int, lost: int) -> float:
    """P(at least as many gains) if gain and loss were equally likely: McNemar, one-sided."""
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue) if gained else 1.0


def holm(p: pd.Series) -> pd.Series:
    """p_(i) -> max_{j ≤ i} min(1, (m − j + 1)·p_(j)), smallest first (Holm 1979)."""
    ordered = p.sort_values()
    left = pd.Series(range(len(p), 0, -1), ordered.index)
    return (ordered * left).cummax().clip(upper=1).reindex(p.index)


def around(mean: Any, half: Any) -> pd.DataFrame:
    """mean ± half as columns."""
    return pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half})


def cells(summary: pd.DataFrame) -> pd.DataFrame:
    """A summary as texts, a column for each of its columns."""
    return pd.DataFrame(
        {c: [show(*v) for v in summary[c].to_numpy()] for c in summary.columns.unique(0)},
        index=summary.index,
    )


def show(mean: float, low: float, high: float) -> str:
    """mean ± half, or mean (low–high) where the interval is not symmetric."""
    if math.isnan(mean):
        return "–"
    digits = 3 if abs(mean) < 10 else 2
    texts = [f"{v:.{digits}f}".replace("-", "−") for v in (mean, low, high)]
    if math.isnan(low):
        return texts[0]
    half = (high - low) / 2
    if math.isclose(low + half, mean, abs_tol=1e-9):
        return f"{texts[0]} ± {half:.{digits}f}"
    return f"{texts[0]} ({texts[1]}–{texts[2]})"
