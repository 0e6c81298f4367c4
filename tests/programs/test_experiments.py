"""The experiments: sweeps end to end, their numbers and tables by other roads."""

import contextlib
import csv
import io
import itertools
import math
import os
import re
import shutil
import signal
import statistics
import threading
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from forked import start
from helpers import unrendered
from scipy.stats import binomtest
from scipy.stats import t as student_t

from ddpm import ancestral, cosine_schedule, ddim, dpm_solver, timesteps
from guidance import (
    class_log_prob,
    classifier_free_guidance,
    classifier_guidance,
    negative_guidance,
    posterior_negative_guidance,
)
from guidance.app.draw import stream_seed, window
from guidance.app.models import load_models
from train.data import load_data
from train.evaluate import cas, metrics
from train.evaluate import lab as lab_module
from train.evaluate.lab import Lab
from train.evaluate.results import markdown, read_rows, write_rows
from train.experiments import __main__ as command
from train.experiments import cases as runs
from train.experiments import classifier, course, intervals, price_of_w, removal, solvers, timing
from train.experiments.flags import SampleFlags
from train.experiments.intervals import cells, holm, show, summarise
from train.experiments.sweep import Experiment
from train.judge import ask
from unet import Judge, NoisyClassifier, UNet, load, save

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "weights/digits"
# Of the rest: test_worlds.py, test_scenes.py
NAMES = [name for name in command.EXPERIMENTS if name not in {*command.EXACT, "concepts", "target"}]
STEPS = {
    "samplers": 10,
    "solvers": 6,
    "timing": 3,
    "course": 2,
    "removal": 2,
}  # of the small sweeps; else 4


def run(weights, out, name, *flags):
    n = "90" if name in command.PAIRS else "20"
    common = ["--weights", str(weights), "--out", str(out), "--n", n, "--device", "cpu"]
    return command.main([name, *common, "--precision", "float32", *flags])


def small_sweep(out, name):
    seeds = "1" if name in command.PAIRS else "2"
    return run(DIGITS, out, name, "--steps", str(STEPS.get(name, 4)), "--seeds", seeds)


class Swept:
    """Every experiment at its smallest, on the digits, each once it is asked for."""

    def __init__(self, out):
        self.out, self.said = out, {}

    def __call__(self, name):
        """The CSV file of an experiment, and what the command has said."""
        if name not in self.said:
            with (
                pytest.MonkeyPatch.context() as patch,
                contextlib.redirect_stdout(io.StringIO()) as text,
            ):
                patch.setattr(cas, "STEPS", 2)
                few_settings(patch)
                assert small_sweep(self.out, name) == 0
            self.said[name] = text.getvalue()
        return self.out / f"{name}.csv", self.said[name]


def few_settings(patch):
    """Of removal's thirteen four, of eight w three, of five strengths two: each kind is there."""
    few = {name: (method, values[-1:]) for name, (method, values) in removal.METHODS.items()}
    patch.setattr(removal, "METHODS", few)
    patch.setattr(price_of_w, "GUIDES", {w: price_of_w.GUIDES[w] for w in (0, 2, 8)})
    every = classifier.guides()
    two = {(name, k): guide for (name, k), guide in every.items() if k in (1, 3)}
    patch.setattr(classifier, "guides", lambda flags=None: two)


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    return Swept(tmp_path_factory.mktemp("swept"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Networks that are trained on nothing, but answer something."""
    path = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    info = {"schedule": cosine_schedule(20).info, "data": "digits"}
    info["classes"] = [str(k) for k in range(10)]
    tiny = {"size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}
    unet, classifier = UNet(**tiny), NoisyClassifier(**tiny)
    for p in [*unet.parameters(), *classifier.parameters()]:
        p.data += 0.15 * torch.randn_like(p)  # what starts at zero would answer nothing
    save(path / "unet.safetensors", unet, info)
    save(path / "classifier.safetensors", classifier, info)
    save(path / "judge.safetensors", Judge(size=8, width=4), info)
    return path


def lab(weights, precision="float32"):
    flags = SampleFlags(weights=str(weights), data_dir="", precision=precision, compile="off")
    return Lab(flags, torch.device("cpu"), batch_size=45, classifier=True)


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_measured_is_shown_again_and_not_measured_again(name, swept, monkeypatch, capsys):
    few_settings(monkeypatch)
    file, said = swept(name)
    out, plot = file.parent, file.with_suffix(".png")
    rows, before = read_rows(file), file.read_bytes()
    assert said.startswith("| ") and f"\n\n{len(rows)} rows in {file}; {plot}\n" in said
    assert set(rows["data"]) == {"digits"} and re.fullmatch("sha256:\\w{12}", rows["weights"][0])
    assert plot.stat().st_size > 10_000
    plot.unlink()
    unrendered(monkeypatch)
    assert small_sweep(out, name) == 0
    jobs, again = capsys.readouterr().out.split("\n", 1)
    assert re.fullmatch(rf"(\d+) of \1 jobs are in {file} already", jobs) and again == said
    assert plot.read_bytes() == b"drawn"
    plot.unlink()
    assert run("nowhere", out, name, "--plot") == 0  # the table needs no weights
    assert capsys.readouterr().out == said
    assert plot.read_bytes() == b"drawn" and file.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_sweeps_that_share_the_jobs_leave_what_one_would(
    name, swept, monkeypatch, capsys, tmp_path
):
    """They add rows as they come, the second from the other end: in any order, job by job.

    Another sweep's rows stay between them where they are, and the last sweep the last one."""
    few_settings(monkeypatch)
    file, said = swept(name)
    rows, key = read_rows(file), [*command.experiment(name).key, "seed"]
    jobs = [job for _, job in rows.groupby(key, sort=False)]
    order = [*range(1, len(jobs), 2), *reversed(range(0, len(jobs), 2))]
    assert order != sorted(order)
    other = rows.iloc[:1].assign(n=7)
    shared = tmp_path / file.name
    write_rows(shared, pd.concat([jobs[order[0]], other, *(jobs[k] for k in order[1:])]))
    unrendered(monkeypatch)
    assert small_sweep(tmp_path, name) == 0
    again = capsys.readouterr().out.split("\n", 1)[1]
    assert again.split("\n\n")[0] == said.split("\n\n")[0]
    left, place = read_rows(shared), len(jobs[order[0]])
    assert left.iloc[place]["n"] == 7
    assert left.drop(index=place).to_csv(index=False) == rows.to_csv(index=False)


@pytest.mark.parametrize("name", NAMES)
def test_what_there_is_of_a_sweep_can_be_shown(name, swept):
    """After the first job of many: a table and a plot, with gaps."""
    experiment, rows = command.experiment(name), read_rows(swept(name)[0])
    key = [*experiment.key, "seed"]
    first = rows[(rows[key] == rows.loc[0, key]).all(axis=1)]
    assert 0 < len(first) < len(rows)
    assert 1 <= len(experiment.table(first)) <= len(experiment.table(rows))
    experiment.plot(first).savefig(io.BytesIO())


def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    calls = []

    def measure(lab, guide, seed, flags):
        if len(calls) == 3 and calls[-1] != "again":
            calls.append("again")
            raise KeyboardInterrupt
        calls.append(next(w for w, known in price_of_w.GUIDES.items() if known is guide))
        return [{"frechet": float(seed)}]

    chosen = Experiment(("w",), lambda flags, lab: price_of_w.GUIDES, measure, lambda rows: rows,
                        lambda rows: timing.grid(1, 1)[0])  # fmt: skip
    monkeypatch.setattr(price_of_w, "EXPERIMENT", chosen)
    assert run(DIGITS, tmp_path, "price-of-w", "--seeds", "1") == 130
    assert list(read_rows(tmp_path / "price-of-w.csv")["w"]) == [0, 0.1, 0.25]
    assert run(DIGITS, tmp_path, "price-of-w", "--seeds", "1") == 0
    assert calls == [0, 0.1, 0.25, "again", 0.5, 1, 2, 4, 8]
    assert list(read_rows(tmp_path / "price-of-w.csv")["w"]) == list(price_of_w.GUIDES)
    # other seeds are added, another n is another sweep
    calls += ["more"]
    assert run(DIGITS, tmp_path, "price-of-w", "--seeds", "2") == 0
    assert calls[calls.index("more") + 1 :] == list(price_of_w.GUIDES)
    capsys.readouterr()
    assert run(DIGITS, tmp_path, "price-of-w", "--seeds", "1", "--n", "30") == 0
    assert "8 rows in" in capsys.readouterr().out
    rows = read_rows(tmp_path / "price-of-w.csv")
    assert list(zip(rows["n"], rows["seed"], strict=True)) == [
        *[(20, 0)] * 8, *[(20, 1)] * 8, *[(30, 0)] * 8,
    ]  # fmt: skip
    assert run("nowhere", tmp_path, "price-of-w", "--plot") == 0
    assert "8 rows in" in capsys.readouterr().out  # of the last sweep


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("price-of-w", ["--n", "15"], "--n must be a multiple of the 10 classes, got 15"),
        ("price-of-w", ["--n", "2000"], "--n must be at most 1390, as many real images are there"),
        ("classifier", ["--n", "2000"], "--n must be at most"),
        ("samplers", ["--n", "2000", "--steps", "10"], "--n must be at most"),
        ("removal", ["--n", "400"], "--n must be at most"),
        ("timing", ["--n", "100"], "--n must be a multiple of the 90 pairs of p₊ and p₋, got 100"),
        ("removal", ["--seeds", "0"], "--seeds must be in 1..1000, got 0"),
        ("course", ["--weights", "nowhere"], "no unet.safetensors in"),
        ("samplers", ["--plot"], "--plot: there is nothing in"),
        ("samplers", ["--steps", "5"], "--steps must be at least 10, got 5"),
        ("solvers", ["--steps", "5"], "--steps must be above 5, got 5"),
        ("solvers", ["--n", "2000"], "--n must be at most"),
        ("removal", ["--n", "1"], "--n must be at least 2, got 1"),
        ("removal", ["--steps", "21"], "--steps must be at most T = 20, got 21"),
        ("timing", ["--steps", "21"], "--steps must be at most T = 20, got 21"),
    ],
)
def test_bad_flags_are_one_line_before_anything_is_drawn(
    name, flags, message, weights, tmp_path, capsys, monkeypatch
):
    def drawn(*_, **__):
        raise AssertionError("drawn")

    monkeypatch.setattr(lab_module, "draw", drawn)
    monkeypatch.setattr(runs, "run", drawn)
    assert run(weights, tmp_path, name, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("name", "p_uncond", "said"),
    [(name, 0, "these weights know no ∅") for name in NAMES if name not in ("samplers", "solvers")]
    + [(name, 1, "these weights know no class") for name in NAMES],
)
def test_what_training_has_not_shown_is_refused(
    name, p_uncond, said, weights, tmp_path, capsys, monkeypatch
):
    other = tmp_path / "other"
    shutil.copytree(weights, other)
    unet, info = load(weights / "unet.safetensors")
    save(other / "unet.safetensors", unet, {**info, "config": {"p_uncond": p_uncond}})
    monkeypatch.setattr("ddpm.ddim", None)
    assert run(other, tmp_path, name, "--steps", "10") == 2
    error = capsys.readouterr().err
    assert said in error and error.strip().count("\n") == 0
    assert not (tmp_path / f"{name}.csv").exists()


def sweep_beside_another(weights, out):
    """A sweep of eight jobs that take a while: each is its w and the process that has done it."""

    def measure(lab, guide, seed, flags):
        time.sleep(0.3)
        return [{"frechet": float(os.getpid())}]

    price_of_w.EXPERIMENT = Experiment(
        ("w",), lambda flags, lab: price_of_w.GUIDES, measure, lambda rows: rows,
        lambda rows: timing.grid(1, 1)[0],
    )  # fmt: skip
    return run(weights, out, "price-of-w", "--seeds", "1")


def test_two_sweeps_at_once_share_the_jobs(weights, tmp_path):
    every = [start(sweep_beside_another, weights, tmp_path, said=tmp_path / k) for k in "ab"]
    for process in every:
        process.join(120)
    assert [process.exitcode for process in every] == [0, 0]
    rows = read_rows(tmp_path / "price-of-w.csv")
    assert sorted(rows["w"]) == list(price_of_w.GUIDES)  # each once
    assert all("8 rows in" in (tmp_path / f"{k}.out").read_text() for k in "ab")


def test_ctrl_c_inside_a_score_stops_the_sweep(weights, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        return score(*_)

    score = cas.classification_accuracy_score
    monkeypatch.setattr(cas, "STEPS", 10**6)
    monkeypatch.setattr(cas, "classification_accuracy_score", interrupted)
    assert run(weights, tmp_path, "price-of-w", "--steps", "2") == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "price-of-w.csv").exists()


# -- the tables: every column from the CSV file, without pandas ------------------------------------


def parse(text):
    """The lines of a Markdown table as dictionaries."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(split[0], cells, strict=True)) for cells in split[2:]]


def numbers(cell):
    """(mean, low, high) of "a ± b" or "a (b–c)"; of a number alone, that."""
    found = [float(x.replace("−", "-")) for x in re.findall(r"−?\d+\.?\d*", cell)]
    if "±" in cell:
        return found[0], found[0] - found[1], found[0] + found[1]
    return tuple(found)


def wilson(shares, ns, scale=1):
    count, n = sum(round(s * n) for s, n in zip(shares, ns, strict=True)), sum(ns)
    ends = binomtest(count, n).proportion_ci(method="wilson")
    return count / n * scale, ends.low * scale, ends.high * scale


def student(values):
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return (mean,)
    half = student_t.ppf(0.975, n - 1) * statistics.stdev(values) / math.sqrt(n)
    return mean, mean - half, mean + half


def over_images(means, sds, n):
    half = 1.96 * math.sqrt(sum(sd * sd for sd in sds) / len(sds) / (n * len(sds)))
    mean = statistics.fmean(means)
    return mean, mean - half, mean + half


def same(cell, expected):
    """To the last digit that is printed, and the half of an interval to another one."""
    if math.isnan(expected[0]):
        return cell == "–"
    found = numbers(cell)
    tolerance = 0.0011 if abs(expected[0]) < 10 else 0.011
    return len(found) == len(expected) and all(
        abs(a - b) <= tolerance for a, b in zip(found, expected, strict=True)
    )


@pytest.fixture(params=["swept", "docs"])
def measured(request, swept):
    """name -> the rows of its CSV file as csv reads them, and its table: now, and as measured."""

    def read(name):
        if request.param == "swept":
            path, text = swept(name)
        else:
            path = ROOT / "docs/results" / f"{name}.csv"
            text = markdown(command.experiment(name).table(read_rows(path)))
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        return rows, parse(text)

    return read


def test_images(rows):
    return {"mnist": 10_000, "digits": 360}[rows[0]["data"]]


test_images.__test__ = False
COLUMNS = {
    "class accuracy": "class_accuracy",
    "Inception score (judge)": "inception_score",
    "Fréchet distance (judge)": "frechet",
    "precision": "precision",
    "recall": "recall",
    "within-class diversity": "diversity",
    "classification accuracy score": "cas",
}


def expected(rows, column):
    """Of rows that differ in their seed: shares by Wilson over the images that were counted, and
    a score by Student, since a network of its own gave each."""
    values, n, real = [float(r[column]) for r in rows], int(rows[0]["n"]), test_images(rows)
    of = {"class_accuracy": n, "precision": n, "recall": min(n, real)}
    of = of.get(column.removesuffix("_real"))
    return student(values) if of is None else wilson(values, [of] * len(values))


def check_lines(rows, lines, key_of_row, key_of_line, columns):
    """Each line's cells from the rows of its key, and "real images" from those of one key."""
    groups = {}
    for row in rows:
        groups.setdefault(key_of_row(row), []).append(row)
    assert sorted(groups, key=str) == sorted(map(key_of_line, lines[:-1]), key=str)
    for line in lines[:-1]:
        for name, column in columns.items():
            assert same(line[name], expected(groups[key_of_line(line)], column)), (line, name)
    first = next(iter(groups.values()))
    for name, column in columns.items():
        cell, real = lines[-1][name], f"{column}_real"
        assert (cell == "") if real not in first[0] else same(cell, expected(first, real)), name
    return groups


def test_the_table_of_the_price_of_w(measured):
    rows, lines = measured("price-of-w")
    groups = check_lines(rows, lines, lambda r: float(r["w"]), lambda x: float(x["w"]), COLUMNS)
    for line in lines[:-1]:  # seed by seed: they share their noise
        at = {k: {r["seed"]: float(r["frechet"]) for r in groups[k]} for k in groups}
        here, there = at[float(line["w"])], at[0.0]
        less = line["Fréchet, less that of w = 0"]
        if here is there:
            assert less == ""
        else:
            assert same(less, student([here[s] - there[s] for s in here]))


def test_the_table_of_the_classifier(measured):
    rows, lines = measured("classifier")
    names = {"ε(∅)": "classifier on ∅", "ε(c)": "classifier on c", "free": "classifier-free"}
    columns = dict(itertools.islice(COLUMNS.items(), 5))
    check_lines(
        rows,
        lines,
        lambda r: (r["method"], r["strength"]),
        lambda x: (next(v for k, v in names.items() if k in x["method"]), x["strength"]),
        columns,
    )
    strengths = {r["strength"] for r in rows}
    assert [x["method"] for x in lines[:-1]] == [m for m in classifier.METHODS.values()
                                                 for _ in strengths]  # fmt: skip


def test_the_table_of_the_samplers(measured):
    rows, lines = measured("samplers")
    for line in lines:
        for S in {r["S"] for r in rows}:
            real = line["sampler"] == "real images"
            name = "DDIM, η = 0" if real else line["sampler"]
            column = "frechet_real" if real else "frechet"
            values = [float(r[column]) for r in rows if (r["sampler"], r["S"]) == (name, S)]
            assert same(line[f"S = {S}"], student(values))
    assert {x["sampler"] for x in lines[:-1]} == {r["sampler"] for r in rows}


def test_the_table_of_the_solvers(measured):
    rows, lines = measured("solvers")
    assert [x["sampler"] for x in lines] == [*solvers.SOLVERS, "two solutions of a class"]
    for line in lines:
        name, column = line["sampler"], "distance"
        if name not in solvers.SOLVERS:
            name, column = "DDIM, η = 0", "diversity"
        values = [float(r[column]) for r in rows if (r["sampler"], r["S"]) == (name, "5")]
        assert len(values) == len({r["seed"] for r in rows})
        assert same(line["S = 5"], student(values))


def test_the_table_of_the_removal(measured):
    rows, lines = measured("removal")
    share, kl, frechet = list(lines[0])[2:]

    def over_classes(chosen, column):
        classes = sorted({r["removed"] for r in chosen})
        of = [[float(r[column]) for r in chosen if r["removed"] == k] for k in classes]
        return student([statistics.fmean(values) for values in of])

    for line in lines[:-1]:
        key = (line["method"], float(line["λ"]))
        chosen = [r for r in rows if (r["method"], float(r["lambda"])) == key]
        assert same(line[kl], over_classes(chosen, "kl"))
        assert same(line[frechet], over_classes(chosen, "frechet"))
        shares, ns = [float(r["share"]) / 100 for r in chosen], [int(r["n"]) for r in chosen]
        if key[0] == "none":
            assert line[share] == "10" and math.isclose(statistics.fmean(shares), 0.1)
        else:
            assert same(line[share], wilson(shares, ns, 100))
    none = [r for r in rows if r["method"] == "none"]
    assert same(lines[-1][kl], over_classes(none, "kl_real"))
    assert same(lines[-1][frechet], over_classes(none, "frechet_real"))
    assert len(lines) == 1 + len({(r["method"], r["lambda"]) for r in rows})


def test_the_table_of_the_timing(measured):
    rows, lines = measured("timing")
    shown, raw = set(), {}
    for line in lines:
        key = line["group"], line["step"]
        chosen = [r for r in rows if (r["group"], r["step"]) == key]
        n, total = int(chosen[0]["n"]), lambda name, some=chosen: sum(int(r[name]) for r in some)
        N = n * len(chosen)
        for name, column in (("judged p₋", "negatives"), ("judged p₊ (", "positives")):
            cell = next(v for k, v in line.items() if k.startswith(name))
            assert same(cell, wilson([total(column) / N], [N]))
        distance = ([float(r[k]) for r in chosen] for k in ("distance", "distance_sd"))
        assert same(line["distance"], over_images(*distance, n))
        gained, lost = total("gained"), total("lost")
        assert line["gained : lost p₋"] == f"{gained} : {lost}"
        if key[0].startswith("early"):
            flips = gained + lost
            p = sum(math.comb(flips, k) for k in range(gained, flips + 1)) / 2**flips
            assert float(line["p-value"]) == pytest.approx(p, rel=0.06)
            raw.setdefault(key[0], []).append((p, float(line["Holm's"])))
        else:
            assert line["p-value"] == line["Holm's"] == ""
        shown.add(key)
    for pairs in raw.values():  # by the definition: the largest of the smaller ones' bounds
        m, ordered = len(pairs), sorted(p for p, _ in pairs)
        for p, corrected in pairs:
            bounds = [min(1, (m - i) * q) for i, q in enumerate(ordered) if q <= p]
            assert corrected == pytest.approx(max(bounds), rel=0.06)
    every = {(r["group"], r["step"]) for r in rows}
    assert shown == {(g, k) for g, k in every if g.startswith("early") or int(k) % 5 == 0}
    seeds = {g: {r["seed"] for r in rows if r["group"] == g} for g, _ in every}
    often = len(seeds.pop("early, p₊ = ∅"))  # a rare event is counted there
    assert {3 * len(of) for of in seeds.values()} == {often}


def test_the_table_of_the_course(measured):
    rows, lines = measured("course")
    named = {"ratio": "ratio", "cosine": "cosine", "inducing": "induced"}
    for line in lines:  # what each shows, by its words
        title, of = line["quantity"], line["of"].replace("the same", "p_φ(c₋|x_t), p₊ = ∅")
        group = "present" if "= ∅" in title + of else "pair"
        guided = "run with p₋" in of or "inducing" in title
        which, sign = ("negative" if guided else "plain"), "₊" in of.split(",")[0]
        kind = "p" if "p_φ" in of else "norm"
        column = named.get(title.split()[0], f"{kind}_{'positive' if sign else 'negative'}")
        for k in {int(r["step"]) for r in rows if int(r["step"]) % 5 == 0}:
            key = (group, which, str(k))
            chosen = [r for r in rows if (r["group"], r["run"], r["step"]) == key]
            means, sds = ([float(r[c]) for r in chosen] for c in (column, f"{column}_sd"))
            assert same(line[f"step {k}"], over_images(means, sds, int(chosen[0]["n"])))


def test_intervals_that_can_be_known():
    """Of 1, 2, 3: s = 1 and t_{0.975}(2) = 4.3027. Wilson's ends are where |p − 0.3| is 1.96 of p's
    own standard deviations: of all images together, not of the mean of two shares."""
    import pandas as pd

    rows = pd.DataFrame({"data": "digits", "w": 1, "n": [50, 150], "x": [1.0, 3.0]})
    rows["class_accuracy"] = [0.0, 0.4]
    summary = summarise(rows, ["w"], ["x", "class_accuracy"])
    share = summary["class_accuracy"].loc[1]
    assert share["mean"] == pytest.approx(0.3)  # 60 of 200
    for end in (share["low"], share["high"]):
        assert abs(end - 0.3) == pytest.approx(1.96 * (end * (1 - end) / 200) ** 0.5, rel=1e-4)
    assert cells(summary).loc[1, "x"] == "2.000 ± 12.706"
    one = summarise(rows[:1], ["w"], ["x", "class_accuracy"])
    assert list(cells(one).loc[1]) == ["1.000", "0.000 (0.000–0.071)"]
    three = pd.DataFrame({"data": "digits", "w": 1, "n": 1, "x": [1.0, 2.0, 3.0]})
    assert cells(summarise(three, ["w"], ["x"])).loc[1, "x"] == "2.000 ± 2.484"
    assert show(math.nan, math.nan, math.nan) == "–"
    assert show(-0.25, -0.5, 0.0) == "−0.250 ± 0.250"
    assert show(10.5, 10.25, 10.75) == "10.50 ± 0.25"


def test_the_spread_over_images_is_that_of_each_seed():
    """Two seeds of 50 images with standard deviations 0 and 2: variances 0 and 4, whose mean is 2;
    the mean of 100 images is then known to √(2/100). The mean of the deviations would give 0.1."""
    import pandas as pd

    rows = pd.DataFrame({"step": 1, "n": 50, "x": [1.0, 2.0], "x_sd": [0.0, 2.0]})
    found = intervals.over_images(rows.groupby("step"), "x").loc[1]
    half = 1.96 * math.sqrt(0.02)
    assert tuple(found) == pytest.approx((1.5, 1.5 - half, 1.5 + half), rel=1e-12)


def test_recall_counts_the_real_images():
    """With more samples than test images recall is a share of the latter."""
    import pandas as pd

    rows = pd.DataFrame({"data": "digits", "w": 1, "n": [1000], "recall": 0.5})
    summary = summarise(rows, ["w"], ["recall"]).loc[1]
    assert tuple(summary["recall"]) == pytest.approx(wilson([0.5], [360]))


def test_a_score_varies_as_its_networks_do():
    """Three networks that read 9,000, 9,100 and 9,200 of 10,000 images: s = 0.01, and not
    √(0.91·0.09/30,000) = 0.0017."""
    import pandas as pd

    rows = pd.DataFrame({"data": "mnist", "w": 1, "n": 500, "cas": [0.90, 0.91, 0.92]})
    found = tuple(summarise(rows, ["w"], ["cas"]).loc[1, "cas"])
    assert found == pytest.approx((0.91, 0.91 - 0.02484, 0.91 + 0.02484), abs=1e-5)


# -- the numbers: from the library, without the commands -------------------------------------------


class Library:
    """The digits' networks and real images; every guidance and sampler by its own name."""

    def __init__(self):
        self.models = load_models(DIGITS, classifier=True)
        self.unet, self.schedule = self.models.unet, self.models.schedule
        self.judge, _ = load(DIGITS / "judge.safetensors")
        data = load_data("digits", "")
        self.labels, self.test_labels = data.labels, data.test_labels
        self.real = ask(self.judge, data.scale(data.images))[0]
        self.test = ask(self.judge, data.scale(data.test_images))[0]
        self.plain = {}  # runs without p₋: with p₊ a class, and without

    def log_prob(self, y):
        return class_log_prob(self.models.classifier, y)

    def samples(self, eps, seed, steps, sampler=ddim, n=20, **options):
        x_T = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        streams = [torch.Generator().manual_seed(stream_seed(seed, i + 1)) for i in range(n)]
        *_, last = sampler(self.schedule, eps, x_T, steps, generator=streams, **options)
        return last.x


@pytest.fixture(scope="session")
def library():
    return Library()


def row(swept, name, **key):
    rows = read_rows(swept(name)[0])
    for column, value in key.items():
        rows = rows[rows[column] == value]
    (found,) = rows.to_dict("records")
    return found


def check_samples(library, found, x, c, seed):
    features, logits = ask(library.judge, x)
    close = partial(pytest.approx, rel=1e-4)
    assert found["class_accuracy"] == close(float((logits.argmax(1) == c).double().mean()))
    assert found["inception_score"] == close(metrics.inception_score(logits))
    assert found["frechet"] == close(metrics.frechet_distance(library.test, features))
    assert found["diversity"] == close(metrics.diversity(features, c))
    places = torch.randperm(360, generator=torch.Generator().manual_seed(seed))[:20]
    nearest = library.test[places]
    assert (found["precision"], found["recall"]) == close(
        metrics.precision_recall(nearest, features)
    )
    # as many real images: the first of each class in a shuffle of this seed
    order = torch.randperm(len(library.real), generator=torch.Generator().manual_seed(seed))
    two = [i for k in range(10) for i in [j for j in order.tolist() if library.labels[j] == k][:2]]
    real, of = library.real[two], library.labels[two]
    assert found["frechet_real"] == close(metrics.frechet_distance(library.test, real))
    assert found["diversity_real"] == close(metrics.diversity(real, of))
    assert (found["precision_real"], found["recall_real"]) == close(
        metrics.precision_recall(nearest, real)
    )


C = torch.arange(10).repeat_interleave(2)


@pytest.mark.parametrize(("w", "seed"), [(0, 0), (2, 1)])
def test_the_price_of_w_is_the_librarys(w, seed, swept, library):
    eps = classifier_free_guidance(library.unet, C, w, null=10)
    x = library.samples(eps, seed, 4)
    check_samples(library, row(swept, "price-of-w", w=w, seed=seed), x, C, seed)


@pytest.mark.parametrize("method", list(classifier.METHODS))
def test_the_classifier_is_the_librarys(method, swept, library):
    conditional = lambda x, t: library.unet(x, t, C)  # noqa: E731
    p_c, schedule = library.log_prob(C), library.schedule
    eps = {
        "classifier on ∅": classifier_guidance(library.unet, p_c, 3, schedule),
        "classifier on c": classifier_guidance(conditional, p_c, 2, schedule),
        "classifier-free": classifier_free_guidance(library.unet, C, 2, null=10),
    }[method]
    found = row(swept, "classifier", method=method, strength=3, seed=1)
    check_samples(library, found, library.samples(eps, 1, 4), C, 1)


@pytest.mark.parametrize(
    ("name", "sampler", "options"),
    [
        ("DDIM, η = 0.5", ddim, {"eta": 0.5}),
        ("DPM-Solver++ (2M)", dpm_solver, {}),
        ("ancestral, β̃_t", ancestral, {"variance": "posterior"}),
        ("ancestral, β_t", ancestral, {"variance": "beta"}),
    ],
)
def test_the_samplers_are_the_librarys(name, sampler, options, swept, library):
    x = library.samples(lambda x, t: library.unet(x, t, C), 1, 10, sampler, **options)
    check_samples(library, row(swept, "samplers", sampler=name, S=10, seed=1), x, C, 1)


@pytest.mark.parametrize(
    ("method", "value"),
    [("none", 0), ("constant λ", 2), ("constant λ, late", 4), ("λ_0·p/(1 − p)", 4)],
)
def test_the_removal_is_the_librarys(method, value, swept, library):
    k, null = 7, torch.full((20,), 10)
    late = timesteps(library.schedule.T, 2)[1]  # after one of two steps, 40 % rounded
    eps = {
        "none": lambda x, t: library.unet(x, t, null),
        "constant λ": negative_guidance(library.unet, 10, k, value, null=10),
        "constant λ, late": negative_guidance(library.unet, 10, k, value, null=10, start=late),
        "λ_0·p/(1 − p)": posterior_negative_guidance(
            library.unet, library.log_prob(k), k, null=10, scale=value
        ),
    }[method]
    features, logits = ask(library.judge, library.samples(eps, 1, 2))
    found = row(swept, "removal", method=method, seed=1, removed=k, **{"lambda": value})
    real, held_out = library.real[library.labels != k], library.test[library.test_labels != k]
    places = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(1))[:20]
    classes = logits.argmax(1)
    judged = library.judge.logits(held_out[places]).argmax(1)
    close = partial(pytest.approx, rel=1e-4)
    assert found["share"] == close(100 * float((classes == k).double().mean()))
    assert found["kl"] == close(metrics.kl_to_uniform(classes, k, 10))
    assert found["kl_real"] == close(metrics.kl_to_uniform(judged, k, 10))
    assert found["frechet"] == close(metrics.frechet_distance(real, features))
    assert found["frechet_real"] == close(metrics.frechet_distance(real, held_out[places]))


@pytest.mark.parametrize("k", [0, 2, 3])
@pytest.mark.parametrize("group", list(timing.GROUPS))
def test_the_timing_is_the_librarys(group, k, swept, library):
    """The other road: every run whole, from x_T, with `negative_guidance` and its window."""
    S, i = 3, torch.arange(90)
    pair, starts = "a class" in group, group.startswith("start")
    if not starts and k == 0:
        return  # no stop step
    c = i % 10 if pair else torch.full((90,), 10)
    negative = (c + 1 + i // 10 % 9) % 10 if pair else i % 10

    def whole(start, stop):
        first, last = window(library.schedule.T, S, start, stop)
        eps = negative_guidance(library.unet, c, negative, 2, null=10, start=first, stop=last)
        return library.samples(eps, 0, S, n=90)

    if pair not in library.plain:
        library.plain[pair] = whole(S, S)
    plain = library.plain[pair]
    before = ask(library.judge, plain)[1].argmax(1)
    if "present" in group:
        negative = before
    x = whole(k, S) if starts else whole(0, k)
    after = ask(library.judge, x)[1].argmax(1)
    found = row(swept, "timing", group=group, step=k, seed=0)
    was, now = before == negative, after == negative
    asked = c if pair else before
    counts = {"negatives": now, "negatives_plain": was, "gained": now & ~was, "lost": was & ~now}
    counts["positives"] = after == asked
    distance = (x - plain).square().flatten(1).mean(1).sqrt()
    if k < S:
        assert distance.mean() > 0.01
    assert {name: found[name] for name in counts} == {n: int(v.sum()) for n, v in counts.items()}
    assert found["distance"] == pytest.approx(float(distance.mean()), rel=1e-3, abs=1e-6)
    assert found["distance_sd"] == pytest.approx(float(distance.std()), rel=1e-3, abs=1e-6)


def test_the_course_is_the_librarys(swept, library):
    """At step 1 of the run with p₋, of all pairs: norms and cosine by inner products."""
    S, i = 2, torch.arange(90)
    c, steps = i % 10, timesteps(library.schedule.T, S)
    negative = (c + 1 + i // 10 % 9) % 10
    projections = {}
    for which, other in (("plain", torch.full((90,), 10)), ("negative", negative)):
        eps = negative_guidance(library.unet, c, other, 2, null=10)
        x_T = torch.randn(90, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        x = next(ddim(library.schedule, eps, x_T, S)).x  # after one update
        t = torch.full((90,), steps[1])
        with torch.no_grad():
            p, n, null = (library.unet(x, t, y).flatten(1)
                          for y in (c, negative, torch.full((90,), 10)))  # fmt: skip
            seen = library.models.classifier(x, t).softmax(1)
        dot = lambda a, b: (a.double() * b.double()).sum(1)  # noqa: E731
        pull_p, pull_n = dot(p - null, p - null).sqrt(), dot(n - null, n - null).sqrt()
        projections[which] = dot(p, n).abs() / dot(n, n).sqrt()
        values = {
            "norm_positive": pull_p,
            "norm_negative": pull_n,
            "ratio": pull_n / pull_p,
            "cosine": dot(p - null, n - null) / (pull_p * pull_n),
            "p_positive": seen[i, c],
            "p_negative": seen[i, negative],
            "projection": projections[which],
            "induced": projections[which] - projections["plain"],
        }
        found = row(swept, "course", group="pair", run=which, step=1, seed=0)
        assert found["t"] == steps[1]
        for name, value in values.items():
            close = partial(pytest.approx, rel=1e-3, abs=1e-4)
            assert found[name] == close(float(value.mean())), name
            assert found[f"{name}_sd"] == close(float(value.std())), name


@pytest.mark.parametrize("kind", ["pair", "present", "any"])
def test_going_on_from_a_state_is_a_window(kind, weights):
    """The timing study runs from the plain run's state k, or loses p₋ at state k. The other road:
    `negative_guidance` from x_T with its window: the same operations but for float32's rounding,
    which four steps of a random network multiply by up to a thousand."""
    L, S = lab(weights), 4
    case = runs.make_case(L, kind, 90, S, seed=3)
    x_T, schedule = case.states[0], L.models.schedule
    assert case.visited == timesteps(schedule.T, S) and len(case.states) == S + 1

    def whole(start, stop):
        t_start, t_stop = window(schedule.T, S, start, stop)
        predictor = negative_guidance(
            L.models.unet, case.c, case.negative, runs.W, null=10, start=t_start, stop=t_stop
        )
        return [step.x for step in ddim(schedule, predictor, x_T, S)][-1]

    moved = (whole(0, S) - case.states[-1]).abs().max()
    assert moved > 0.1
    for first in range(S + 1):
        pushed = runs.from_step(L, case, first)
        for last in {first, (first + S) // 2, S}:
            x = runs.until_step(L, case, pushed, last)
            torch.testing.assert_close(x, whole(first, last), rtol=0, atol=1e-3)


def test_pairs_are_all_pairs(weights):
    case = runs.make_case(lab(weights), "pair", 180, 2, seed=0)
    pairs = list(zip(case.c.tolist(), case.negative.tolist(), strict=True))
    assert len(set(pairs)) == 90 and all(a != b for a, b in pairs)
    assert all(pairs.count(pair) == 2 for pair in set(pairs))


def test_the_course_is_measured_in_float32(weights):
    """bfloat16 would give two differences from one rounded ε_∅ a cosine of a half.

    Both labs with the network in one layout, in which sums come in one order."""
    case = runs.make_case(lab(weights), "pair", 90, 3, seed=0)
    t = torch.full((90,), case.visited[1])
    labs = [lab(weights, precision) for precision in ("float32", "bfloat16")]
    labs[1].models.unet.to(memory_format=torch.channels_last)
    found = [course.predictions(L, case.states[1], t, case.c, case.negative) for L in labs]
    for key in found[0]:
        assert torch.equal(found[0][key], found[1][key]), key


def test_sign_test_counts_coins():
    """P(5 heads of 5) = 1/32; P(≥ 4 of 5) = 6/32; no gain is no evidence."""
    assert timing.sign_test(5, 0) == pytest.approx(1 / 32)
    assert timing.sign_test(4, 1) == pytest.approx(6 / 32)
    assert timing.sign_test(0, 7) == 1 and timing.sign_test(0, 0) == 1


def test_holm_is_the_closed_test_of_bonferroni():
    """Another road than the sorted list: every set of hypotheses has Bonferroni's p, its size times
    its smallest; a hypothesis is rejected where all sets that hold it are."""
    import pandas as pd

    p = [0.01, 0.04, 0.03, 0.005, 0.2]
    sets = [s for r in range(1, 6) for s in itertools.combinations(range(5), r)]
    closed = [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(5)]
    found = holm(pd.Series(p, index=list("edcba")))
    assert list(found.index) == list("edcba") and list(found) == pytest.approx(closed)
    assert closed == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.2])  # as statsmodels has them


def test_removal_starts_late_after_two_fifths():
    """Of 50 steps the twenty-first is the first with the negative class: 20 without it."""
    late, _ = window(1000, 50, round(0.4 * 50))
    assert late == timesteps(1000, 50)[20] and "late" in list(removal.METHODS)[1]
