"""The exact worlds a second time: picture by picture, in plain numbers, without the experiment's
code; and their table from the CSV file without pandas."""

import csv
import io
import math
import re
import statistics
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from helpers import unrendered
from scipy.stats import binomtest
from scipy.stats import t as student_t

from train.evaluate.results import markdown, read_rows
from train.experiments import __main__ as command
from train.experiments import worlds
from train.experiments.worlds_plot import three_paths
from train.experiments.worlds_table import activation

ROOT = Path(__file__).parents[2]
S, T, W = 6, 1000, 6.5
F = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
ALPHA_BAR = [1.0]
for t in range(1, T + 1):
    ALPHA_BAR.append(ALPHA_BAR[-1] * max(F[t] / F[t - 1], 0.001))
VISITED = [T * (S - k) // S for k in range(S)] + [0]
close = lambda x: pytest.approx(x, rel=1e-6, abs=1e-7)  # noqa: E731

# (mean, weight, who is of p₊, who is of p₋) of each Gaussian, and their variance; ∅ is everything
CORNERS = [(1, 1), (1, 0), (0, 1), (0, 0)]


def corners(weights, sizes, variance):
    of = [((a * sizes[0], b * sizes[1]), p, a, b)
          for (a, b), p in zip(CORNERS, weights, strict=True) if p > 1e-9]  # fmt: skip
    return of, variance


def line(means, weights, negative, variance=0.05):
    return [((m,), p, 1, k) for m, p, k in zip(means, weights, negative, strict=True)], variance


def pick(world, label):
    """The Gaussians of "+", "−" or "∅", and their weights made to sum to 1."""
    place = {"+": 2, "−": 3}.get(label)
    of = [(g[0], g[1]) for g in world[0] if place is None or g[place]]
    total = sum(p for _, p in of)
    return [(m, p / total) for m, p in of]


def eps(world, x, t, label):
    """√(1 − ᾱ)·(x − √ᾱ·E[μ|x]) / (ᾱ·s² + 1 − ᾱ)."""
    a, of = ALPHA_BAR[t], pick(world, label)
    v, root = a * world[1] + 1 - a, math.sqrt(a)
    logs = [math.log(p) - sum((xi - root * mi) ** 2 for xi, mi in zip(x, m, strict=True)) / 2 / v
            for m, p in of]  # fmt: skip
    p = [math.exp(value - max(logs)) for value in logs]
    mean = [sum(q * m[i] for q, (m, _) in zip(p, of, strict=True)) / sum(p) for i in range(len(x))]
    return [math.sqrt(1 - a) * (xi - root * mi) / v for xi, mi in zip(x, mean, strict=True)]


def states(world, x, when=(), w=W):
    """DDIM from x_T with p₋ in the steps `when`, and ∅ in its place in the others."""
    found = [x]
    for k in range(S):
        a, b = ALPHA_BAR[VISITED[k]], ALPHA_BAR[VISITED[k + 1]]
        plus = eps(world, x, VISITED[k], "+")
        other = eps(world, x, VISITED[k], "−" if k in when else "∅")
        e = [(1 + w) * p - w * q for p, q in zip(plus, other, strict=True)]
        x_0 = [(xi - math.sqrt(1 - a) * ei) / math.sqrt(a) for xi, ei in zip(x, e, strict=True)]
        x = [math.sqrt(b) * u + math.sqrt(1 - b) * ei for u, ei in zip(x_0, e, strict=True)]
        found.append(x)
    return found


def nearest(world, x):
    """The odds of every Gaussian at clean data."""
    logs = [math.log(g[1]) - sum((xi - mi) ** 2 for xi, mi in zip(x, g[0], strict=True))
            / 2 / world[1] for g in world[0]]  # fmt: skip
    p = [math.exp(value - max(logs)) for value in logs]
    return [q / sum(p) for q in p]


def has(world, x, place=3):
    return sum(p for p, g in zip(nearest(world, x), world[0], strict=True) if g[place]) > 0.5


def noise(n, D, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=generator, dtype=torch.float64).tolist()


def by_name(rows):
    found = {(r["name"], r["at"]): r for r in rows}
    assert len(found) == len(rows)
    return found


def same(row, values):
    """Mean, standard deviation and number of values, one for each picture."""
    assert row["of"] == len(values)
    assert row["value"] == close(statistics.fmean(values))
    if len(values) > 1:
        assert row["value_sd"] == close(statistics.stdev(values))


def minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


INDEPENDENT = [0.04, 0.16, 0.16, 0.64]


@pytest.mark.parametrize(
    ("group", "sizes"), [("p₋ the smaller", (6.4, 0.8)), ("p₋ the larger", (0.8, 6.4))]
)
def test_delay_and_late_starts_are_known(group, sizes):
    rows = by_name(worlds.GROUPS[group](3, SimpleNamespace(n=60, steps=S)))
    world = corners(INDEPENDENT, sizes, 0.01)
    x_T = [x for x in noise(60, 2, 3) if has(world, states(world, x)[-1])]
    assert 5 < len(x_T) < 30
    pulls = {"₊": [], "₋": []}
    for x in x_T:
        along = list(zip(states(world, x), VISITED[:-1], strict=False))
        for sign, label in (("₊", "+"), ("₋", "−")):
            pulls[sign].append([math.hypot(*minus(eps(world, y, t, label), eps(world, y, t, "∅")))
                                for y, t in along])  # fmt: skip
    for sign, of in pulls.items():
        for k in range(S):
            same(rows[f"pull of p{sign}", k], [norms[k] for norms in of])
    peak = {sign: [norms.index(max(norms)) for norms in of] for sign, of in pulls.items()}
    same(rows["p₋ peaks after p₊", 0], minus(peak["₋"], peak["₊"]))
    left = {k: [has(world, states(world, x, range(k, S))[-1]) for x in x_T] for k in (0, 2, 4, 6)}
    for k, values in left.items():
        same(rows["left", k], [float(v) for v in values])
    assert len({sum(v) for v in left.values()}) > 1 and all(left[S])
    assert len(rows) == 2 * S + 1 + len(left)


def test_the_critical_log_snr_is_known():
    rows = by_name(worlds.GROUPS["separations"](1, SimpleNamespace(n=60, steps=S)))
    log_snr = [math.log(ALPHA_BAR[t] / (1 - ALPHA_BAR[t])) for t in VISITED[:-1]]
    for separation in (0.4, 0.8, 1.6, 3.2, 6.4):
        world = line((0, separation), (0.8, 0.2), (0, 1), 0.01)
        x_T = [x for x in noise(60, 1, 1) if has(world, states(world, x)[-1])]
        share = [sum(has(world, states(world, x, range(k, S))[-1]) for x in x_T) / len(x_T)
                 for k in range(S)]  # fmt: skip
        for name, level in (("a tenth left", 0.1), ("a half left", 0.5)):
            found = rows[name, separation]["value"]
            k = next((k for k in range(1, S) if share[k - 1] < level <= share[k]), None)
            if k is None:
                assert math.isnan(found)
            else:  # on the line between two start steps
                way = (level - share[k - 1]) / (share[k] - share[k - 1])
                assert found == close(log_snr[k - 1] + way * (log_snr[k] - log_snr[k - 1]))
    assert sum(math.isfinite(r["value"]) for r in rows.values()) > 5


def test_the_overlaps_are_known():
    n = 12
    rows = by_name(worlds.GROUPS["overlaps"](2, SimpleNamespace(n=n, steps=S)))
    assert sorted({at for _, at in rows}) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    for r in (0.0, 0.2, 0.6):
        weights = [0.5 * r, 0.5 - 0.5 * r, 0.3 - 0.5 * r, 0.2 + 0.5 * r]
        world, cosines, ends = corners(weights, (2, 2), 0.05), [], []
        for x in noise(n, 2, 2):
            plain, of = states(world, x), []
            for k in range(0, S, 2):
                plus, other, null = (eps(world, plain[k], VISITED[k], y) for y in "+−∅")
                a, b = minus(plus, null), minus(other, null)
                if min(math.hypot(*a), math.hypot(*b)) > 1e-6:
                    of.append(sum(u * v for u, v in zip(a, b, strict=True))
                              / math.hypot(*a) / math.hypot(*b))  # fmt: skip
            cosines.append(statistics.fmean(of))
            ends.append((plain[-1], states(world, x, range(S))[-1]))
        same(rows["cosine", r], cosines)
        same(rows["p₋ without it", r], [float(has(world, x)) for x, _ in ends])
        same(rows["p₋ left", r], [float(has(world, x)) for _, x in ends])
        same(rows["p₊ kept", r], [float(has(world, x, 2)) for _, x in ends])


WINDOWS = {
    "two modes": (line((0, 1.2, -1.5), (0.98, 0.019, 0.001), (0, 1, 1)), 2),
    "two modes, same side": (line((0, 1.2, 2.7), (0.98, 0.019, 0.001), (0, 1, 1)), 2),
    "one mode": (line((0, 1.2), (0.98, 0.02), (0, 1)), 1),
}


@pytest.mark.parametrize("group", list(WINDOWS))
def test_the_windows_are_known(group):
    n, (world, rare) = 250, WINDOWS[group]
    rows = by_name(worlds.GROUPS[group](5, SimpleNamespace(n=n, steps=S)))
    x_T = noise(n, 1, 5)
    looks_rare = lambda x: nearest(world, x)[rare] > 0.5  # noqa: E731
    plain = [states(world, x) for x in x_T]
    was = [has(world, of[-1]) for of in plain]
    same(rows["p₋", 0], [float(v) for v in was])
    same(rows["rare look", 0], [float(looks_rare(of[-1])) for of in plain])
    scales = (4.0, W) if group == "two modes" else (W,)
    for w in scales:
        for k in (1, 2, 3, 6):
            ends = [states(world, x, range(k), w)[-1] for x in x_T]
            now, row = [has(world, x) for x in ends], rows[f"p₋, w = {w:g}", k]
            same(row, [float(v) for v in now])
            pairs = list(zip(was, now, strict=True))
            assert (row["gained"], row["lost"]) == (pairs.count((False, True)),
                                                    pairs.count((True, False)))  # fmt: skip
            same(rows[f"rare look, w = {w:g}", k], [float(looks_rare(x)) for x in ends])
    pushed = [states(world, x, range(S)) for x in x_T]
    for k, t in enumerate(VISITED[:-1]):  # on a line the projection on ε₋ is |ε₊| itself
        size = [[abs(eps(world, of[k], t, "+")[0]) for of in runs] for runs in (pushed, plain)]
        same(rows["D^(t)", k], minus(*size))
    if group == "two modes":
        one = rows["p₋, w = 6.5", 1]
        assert one["gained"] > 0 and one["gained"] != one["lost"]  # swapped, they would show
        assert len(rows) == 2 + 4 * 2 * 5 + S  # w = 1, 2, 4, 6.5; stops 1, 2, 3, 4, 6


def test_the_three_paths_are_known():
    """The picture: from one x_T without p₋, with it in the first two steps, and always."""
    world = WINDOWS["two modes"][0]
    paths = three_paths(worlds.TWO_MODES, S, 2)
    for values, when in zip(paths.values(), ((), range(2), range(S)), strict=True):
        assert values == close([x for (x,) in states(world, [-1.7], when)])


# -- the command and its table ---------------------------------------------------------------------


def run(out, *flags):
    return command.main(["worlds", "--out", str(out), *flags])


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("worlds")
    assert run(out, "--n", "40", "--seeds", "2", "--steps", "4") == 0
    return out / "worlds.csv"


def test_it_is_measured_once_and_shown_again(swept, capsys, monkeypatch):
    before, plot = swept.read_bytes(), swept.with_suffix(".png")
    assert plot.stat().st_size > 10_000
    monkeypatch.setattr(worlds, "states", None)
    unrendered(monkeypatch)
    for flags in (["--plot"], ["--n", "40", "--seeds", "2", "--steps", "4"]):
        plot.unlink()
        assert run(swept.parent, *flags) == 0
        rows, said = read_rows(swept), capsys.readouterr().out
        assert markdown(worlds.EXPERIMENT.table(rows)) in said and plot.read_bytes() == b"drawn"
    assert swept.read_bytes() == before
    assert set(rows["data"]) == {"exact"} and set(rows["dtype"]) == {"float64"}
    assert set(rows["seed"]) == {0, 1} and set(rows["group"]) == set(worlds.GROUPS)


@pytest.mark.parametrize("group", list(worlds.GROUPS))
def test_what_there_is_of_it_can_be_shown(group, swept):
    rows = read_rows(swept)
    some = rows[(rows["group"] == group) & (rows["seed"] == 0)]
    assert 1 <= len(worlds.EXPERIMENT.table(some)) < len(worlds.EXPERIMENT.table(rows))
    worlds.EXPERIMENT.plot(some).savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "1001"], "--steps must be in 1..1000, got 1001"),
        (["--n", "0"], "--n must be in 1..1000000, got 0"),
        (["--weights", "x"], "unrecognized arguments: --weights x"),
    ],
)
def test_bad_flags_are_one_line(flags, message, tmp_path, capsys):
    try:
        code = run(tmp_path, *flags)
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and message in capsys.readouterr().err


def cells(text):
    """The table's lines as dictionaries."""
    lines = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def numbers(cell):
    """(mean, low, high)."""
    found = [float(v.replace("−", "-")) for v in re.findall(r"−?\d+\.\d+", cell)]
    return (found[0], found[0] - found[1], found[0] + found[1]) if "±" in cell else tuple(found)


def about(cell, expected):
    tolerance = 0.0011 if abs(expected[0]) < 10 else 0.011
    assert numbers(cell) == pytest.approx(expected, abs=tolerance), cell


@pytest.fixture(params=["docs", "swept"])
def measured(request):
    path = ROOT / "docs/results/worlds.csv"
    path = request.getfixturevalue("swept") if request.param == "swept" else path
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, cells(markdown(worlds.EXPERIMENT.table(read_rows(path))))


def chosen(rows, group, name, at):
    found = [r for r in rows if r["group"] == group and r["name"] == name and float(r["at"]) == at]
    assert found
    return found


def share(rows):
    of = [int(r["of"]) for r in rows]
    count = sum(round(float(r["value"]) * n) for r, n in zip(rows, of, strict=True))
    ends = binomtest(count, sum(of)).proportion_ci(method="wilson")
    return [100 * v for v in (count / sum(of), ends.low, ends.high)]


def of_pictures(rows):
    mean = statistics.fmean(float(r["value"]) for r in rows)
    variance = statistics.fmean(float(r["value_sd"]) ** 2 for r in rows)
    half = 1.96 * math.sqrt(variance / sum(int(r["of"]) for r in rows))
    return mean, mean - half, mean + half


def test_the_table_is_the_csv_files(measured):
    rows, lines = measured
    steps, group_of = (
        int(rows[0]["steps"]),
        {"smaller": "p₋ the smaller", "larger": "p₋ the larger"},
    )
    stop = max(k for k in worlds.STOPS if k <= min(10, steps))
    for line in lines:
        value, world, verdict = line["value (95 %)"], line["world"], line["verdict"]
        group = next((g for word, g in group_of.items() if word in world), "two modes")
        group = {"+2.7": "two modes, same side", "at +1.2": "one mode"}.get(world[-4:], group)
        if line["claim"] in ("reverse activation", "D^(t) > 0"):
            group = "two modes, same side" if "+2.7" in world else group
            group = "one mode" if world.startswith("p₋ at") else group
        if line["claim"] == "delayed effect":
            expected = of_pictures(chosen(rows, group, "p₋ peaks after p₊", 0))
            holds = expected[1] > 0
        elif line["claim"] == "waiting is free":
            k = max(k for k in range(0, steps + 1, 2) if k <= steps / 4)
            assert line["number"].endswith(f"step {k}")
            expected = share(chosen(rows, group, "left", k))
            holds = expected[2] < 5
        elif line["claim"] == "one d′ is critical":
            means = []
            for size in (0.4, 0.8, 1.6, 3.2, 6.4):
                of = chosen(rows, "separations", "a half left", size)
                d = [size / math.sqrt(0.01 + math.exp(-float(r["value"]))) for r in of]
                means += [statistics.fmean(d)] if not any(map(math.isnan, d)) else []
            n = len(means)  # in four steps the smallest is never decided
            assert n == 5 or steps == 4
            half = student_t.ppf(0.975, n - 1) * statistics.stdev(means) / math.sqrt(n)
            mean = statistics.fmean(means)
            expected, holds = (mean, mean - half, mean + half), half < 0.1 * mean
        elif line["claim"] == "deletion by neutralisation":
            r = float(re.search(r"= ([\d.]+)", world)[1])
            expected = of_pictures(chosen(rows, "overlaps", "cosine", r))
            holds = "neither" if r == 0.3 else expected[1] > 0
        elif line["claim"] == "D^(t) > 0":
            expected = of_pictures(chosen(rows, group, "D^(t)", min(10, steps - 1)))
            holds = expected[1] > 0
        else:
            w = re.search(r"w = ([\d.]+)", world)[1]
            of = chosen(rows, group, f"p₋, w = {w}", stop)
            expected, p = share(of), []
            for k in [k for k in worlds.STOPS if k <= steps]:
                at = chosen(rows, group, f"p₋, w = {w}", k)
                gained, lost = (sum(int(float(r[c])) for r in at) for c in ("gained", "lost"))
                flips = gained + lost
                p.append(sum(math.comb(flips, i) for i in range(gained, flips + 1)) / 2**flips)
                if k == stop:
                    mine, counts = p[-1], f"gained {gained}, lost {lost},"
            smaller = sorted(v for v in p if v <= mine)
            corrected = max(min(1, (len(p) - i) * v) for i, v in enumerate(smaller))
            plain = share(chosen(rows, group, "p₋", 0))[0]
            assert counts in line["number"] and f"{plain:.2f} without" in line["number"]
            said = float(re.search(r"p = (\S+)$", line["number"])[1])
            assert said == pytest.approx(corrected, rel=0.06, abs=1e-300)
            holds = corrected < 0.05
        about(value, tuple(expected))
        assert verdict == {True: "holds", False: "does not"}.get(holds, holds)
    assert len(lines) == 15


def test_seeds_of_different_sizes_weigh_what_they_hold():
    """80 of 400 pictures, not the mean of 50 % and 10 %; of the windows the last in the table's."""
    name = f"p₋, w = {W:g}"
    rows = pd.DataFrame(
        [
            ("p₋", 0, 0.5, 100, 0, 0),
            ("p₋", 0, 0.1, 300, 0, 0),
            (name, 8, 1.0, 100, 10, 1),
            (name, 8, 0.0, 300, 2, 0),
            (name, 12, 1.0, 400, 0, 9),
        ],
        columns=["name", "at", "value", "of", "gained", "lost"],
    ).assign(group="one mode")
    (line,) = activation(rows, {"one mode"})
    p = 2 * binomtest(12, 13, alternative="greater").pvalue  # Holm: the smaller of two windows'
    said = f"8 steps of it; 20.00 without; gained 12, lost 1, p = {p:.2g}"
    assert line["number"].endswith(said) and line["verdict"] == "holds"
    assert line["value (95 %)"].startswith("25.0")
