"""README and docs: links lead somewhere, commands exist, numbers and tables are the code's."""

import csv
import re
import shlex
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
from commands import PARSERS
from scipy.stats import binomtest
from scipy.stats import t as student_t

from train.benchmark import busy, growth, operators, quality, works
from train.config import PRESETS, from_flags, parser
from train.evaluate.results import Results, markdown, read_rows
from train.experiments import __main__ as experiments
from train.experiments.sweep import last_sweep
from unet import UNet

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
RESULTS, SPEED = PAGES["docs/results.md"], PAGES["docs/speed.md"]
COMMANDS = sorted(
    {
        command.strip()
        for text in PAGES.values()
        for command in re.findall(r"python -m ((?:guidance|train)[^`\n#…]*--[^`\n#…]*)", text)
        if "--help" not in command
    }
)


def anchors(text: str) -> set[str]:
    """The ids of a page's headings, as they are made on the web."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def table(page: str, name: str) -> str:
    """What stands between a table's markers."""
    found = re.findall(rf"<!-- table: {name} -->\n(.+?)\n<!-- /table -->", page, re.DOTALL)
    assert len(found) == 1, f"{len(found)} tables called {name}"
    return str(found[0])


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/playground/README.md",
        "docs/ja/README.md",
        "weights/mnist/README.md",
    ],
)
def test_links_lead_somewhere(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)]+)\)", path.read_text())
    assert links or page != "README.md"
    for link in links:
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text()), link


def test_every_page_can_be_reached_from_the_readme():
    for page in PAGES:
        assert page == "README.md" or f"({page}" in PAGES["README.md"], page


def test_the_readme_is_short():
    rows = PAGES["README.md"].splitlines()
    assert len(rows) <= 170
    assert all(len(row) <= 100 or row.startswith(("|", "![")) for row in rows)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command):
    module, *flags = shlex.split(command)
    PARSERS[module]().parse_args(flags)  # exits with 2 where a flag does not exist


def test_there_are_commands():
    assert len(COMMANDS) >= 20


def test_the_readmes_python_runs(monkeypatch, capsys):
    """From a clone as it is: the same text, six steps in the place of fifty."""
    code = re.findall(r"```python\n(import.+?)```", PAGES["README.md"], re.DOTALL)
    assert len(code) == 1 and code[0].count("50") == 3
    monkeypatch.chdir(ROOT)
    exec(code[0].replace(", 50)[5]", ", 6)[5]").replace(", 50)", ", 6)"), {})
    assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.mark.parametrize(
    ("shape", "claim"),
    [
        ({**vars(PRESETS["mnist"]), "size": 28, "channels": 1}, "1.5 M parameters"),
        ({**vars(PRESETS["cifar10"]), "size": 32, "channels": 3}, "7.8 M parameters"),
        ({"size": 32, "channels": 3, **vars(PRESETS["cifar10"]), "width": 136}, "35.0 M"),
    ],
)
def test_numbers_of_parameters(shape, claim):
    names = ("size", "channels", "width", "multipliers", "blocks", "attention")
    model = UNet(**{name: shape[name] for name in names})
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert claim.startswith(f"{millions:.1f} M") and claim in PAGES["docs/training.md"]


@pytest.mark.parametrize("name", list(experiments.EXPERIMENTS))
def test_tables_are_what_the_csv_files_say(name):
    """The tables are the lines that `--plot` prints, and that are not written by hand."""
    path = ROOT / "docs/results" / f"{name}.csv"
    rows = last_sweep(Results(path))
    assert table(RESULTS, name) == markdown(experiments.experiment(name).table(rows))


@pytest.mark.parametrize("name", ["timing", "course"])
def test_the_tables_of_scenes_are_their_csv_files(name):
    """The same experiments, on the weights whose labels overlap."""
    rows = last_sweep(Results(ROOT / f"docs/results/scenes/{name}.csv"))
    assert set(rows["data"]) == {"scenes"}
    assert table(RESULTS, f"scenes {name}") == markdown(experiments.experiment(name).table(rows))
    assert f"results/scenes/{name}.png" in RESULTS
    assert f"python -m train.experiments {name} --weights weights/scenes " in RESULTS


@pytest.mark.parametrize(
    ("name", "show"),
    [
        ("benchmark", works.table),
        ("benchmark avx2", works.table),
        ("operators avx2", operators.table),
        ("growth", growth.table),
        ("quality", quality.table),
        ("quality avx2", quality.table),
        ("busy", busy.table),
    ],
)
def test_the_benchmarks_tables_are_their_csv_files(name, show):
    folder, file = ("avx2/", name.split()[0]) if "avx2" in name else ("", name)
    rows = read_rows(ROOT / f"docs/results/{folder}{file}-cpu.csv")
    assert table(SPEED, name) == markdown(show(rows))


def test_every_measured_file_has_its_plot_and_command():
    for path in (ROOT / "docs/results").glob("*.csv"):
        if path.stem in experiments.EXPERIMENTS:
            assert path.with_suffix(".png").exists() and f"results/{path.stem}.png" in RESULTS
            assert f"python -m train.experiments {path.stem} " in RESULTS
        else:
            assert f"results/{path.name}" in RESULTS + SPEED


# -- the README's findings, counted from the CSV files ---------------------------------------------


def measured(name, **key):
    with open(ROOT / f"docs/results/{name}.csv", newline="") as file:
        rows = [r for r in csv.DictReader(file) if all(r[k] == v for k, v in key.items())]
    assert rows
    return rows


def mean(rows, column):
    return sum(float(row[column]) for row in rows) / len(rows)


def share(count, n, digits=0):
    """A share with Wilson's interval, as the pages write it."""
    wilson = binomtest(count, n).proportion_ci(method="wilson")
    low, high = (f"{100 * v:.{digits}f}" for v in wilson)
    return f"{100 * count / n:.{digits}f} % ({low}–{high} %)"


def says(text):
    """Whether the README says this, however its lines are broken."""
    return text in " ".join(PAGES["README.md"].split())


def judged(rows):
    n = sum(int(row["n"]) for row in rows)
    return round(mean(rows, "class_accuracy") * n), n


def test_finding_1_the_price_of_w():
    plain, strong = (measured("price-of-w", w=w) for w in ("0", "8"))
    assert mean(strong, "class_accuracy") > 0.9995  # "100 %"
    assert says(f"rise from {share(*judged(plain), digits=1)} to 100 %")
    assert says(f"recall falls from {mean(plain, 'recall'):.2f} to {mean(strong, 'recall'):.2f}")


def test_finding_2_a_classifier_alone():
    rows = measured("classifier", method="classifier on ∅", strength="1")
    assert says(f"s = 1 on ε(∅) it brings {share(*judged(rows))}")


def test_finding_3_a_constant_lambda():
    constant = measured("removal", method="constant λ", **{"lambda": "1"})
    dynamic = measured("removal", method="λ_0·p/(1 − p)", **{"lambda": "4"})
    plain = measured("removal", method="none")
    left, distance = ([mean(r, c) for r in (constant, dynamic)] for c in ("share", "frechet"))
    assert says(
        f"λ = 1 leaves {left[0]:.1f} % of the class at a Fréchet distance of {distance[0]:.1f}"
    )
    assert says(f"λ = 4·p/(1−p) leaves {left[1]:.1f} % at {distance[1]:.1f}.")
    assert says(f"Without guidance it is {mean(plain, 'frechet'):.1f}")


def test_finding_4_a_late_start():
    left, n = defaultdict(int), defaultdict(int)
    for row in measured("timing", group="start, p₋ present"):
        left[int(row["step"])] += int(row["negatives"])
        n[int(row["step"])] += int(row["n"])
    last = max(k for k in left if all(left[j] == 0 for j in range(k + 1)))
    limit = binomtest(0, n[0]).proportion_ci(method="wilson").high
    assert says(f"Up to step {last} of 50 it removes all of {n[0]} pictures")
    assert says(f"(upper limit {100 * limit:.1f} %); from step 25, {share(left[25], n[25])} stay")


def test_finding_5_reverse_activation():
    gained, lost, n = defaultdict(int), defaultdict(int), defaultdict(int)
    for row in measured("timing", group="early, p₊ = ∅"):
        k = int(row["step"])
        gained[k], lost[k] = gained[k] + int(row["gained"]), lost[k] + int(row["lost"])
        n[k] += int(row["n"])
    assert all(gained[k] <= lost[k] for k in n)
    p = min(binomtest(gained[k], gained[k] + lost[k], alternative="greater").pvalue for k in n)
    assert says(f"In {n[1]} pictures it never gained more than it lost (smallest p-value {p:.2f})")


def test_how_near_to_the_right_answer():
    """Shares and distances in the prose, from the rows of each seed."""
    text = " ".join(RESULTS.split())

    def of(group, method, column):
        return [float(r[column]) for r in measured("target", group=group, method=method)]

    def distance(group, method, column="frechet"):
        values = of(group, method, column)
        half = student_t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
        return f"{statistics.mean(values):.1f} ± {half:.1f}"

    implied, bold = "ring strongly implied", "bold"
    window, exact = "negative, w = 2, a sixth to a half", "1·p/(1 − p)"
    for group, method, column in (
        (implied, "negative, w = 4", "left"), (implied, window, "left"), (implied, exact, "kept"),
    ):  # fmt: skip
        assert share(int(sum(of(group, method, column))), int(sum(of(group, method, "n")))) in text
    for group, method in (
        (implied, "negative, w = 4"), (implied, "ε(p₊)"), (implied, window),
        (bold, "negative, w = 2"), (bold, "negative, w = 4"), (bold, exact),
    ):  # fmt: skip
        assert distance(group, method) in text
    for group in (implied, bold):
        assert distance(group, "ε(p₊)", "frechet_real") in text
    nearest = min(statistics.mean(of(implied, m, "frechet")) for m in
                  {r["method"] for r in measured("target", group=implied)})  # fmt: skip
    assert nearest == statistics.mean(of(implied, "negative, w = 4", "frechet"))


def test_the_verdict_on_negative_prompts():
    """Its trained column and the results' section, counted from the CSV file of scenes."""
    count = defaultdict(lambda: defaultdict(int))
    for row in measured("scenes/timing"):
        of = count[row["group"], int(row["step"])]
        for column in ("n", "negatives_plain", "gained", "gained_rare", "lost", "nearer"):
            of[column] += int(float(row[column])) if row[column] != "nan" else 0
    questions = ("ring half implied", "bold", "ring strongly implied", "ring weakly implied")
    whole, part = ([count[f"window, {q}", k] for q in questions] for k in (0, 3))
    kept = [f"{p['lost']} of {w['lost']}" for w, p in zip(whole, part, strict=True)][:3]
    nearer = sum(p["nearer"] for p in part[:3]), sum(p["n"] for p in part[:3])
    assert says(f"keep {', '.join(kept)} removals") and says(f"in {nearer[0]} of {nearer[1]}.")
    start = count["start, ring strongly implied", 0]
    stay = share(start["negatives_plain"] - start["lost"], start["negatives_plain"])
    assert says(f"{stay} of the threes' and eights' rings stay")
    early = [count[f"early, {q}", k] for q in questions for k in (1, 2, 3, 5)]
    n = sum(count[f"early, {q}", 1]["n"] for q in questions)
    assert says(f"not seen: {sum(e['gained'] for e in early)} of {n} in windows")
    text = " ".join(RESULTS.split())
    at_8 = [count[f"early, {q}", 8] for q in questions]
    gained, rare, lost = (sum(e[k] for e in at_8) for k in ("gained", "gained_rare", "lost"))
    assert f"one of 8 steps {gained}, {rare} of them a ring at its rare place, while {lost}" in text
    for q, at in (("ring strongly implied", (0, 4, 7, 10)), ("bold", (0, 4, 7, 10))):
        for k in at:
            of = count[f"start, {q}", k]
            assert share(of["negatives_plain"] - of["lost"], of["negatives_plain"]) in text


def test_a_score_varies_more_than_images_drawn_by_chance():
    """Why its interval is Student's: the variance over seeds beside p(1 − p)/n."""
    times = []
    for w in ("0", "0.1", "0.25", "0.5", "1", "2", "4", "8"):
        cas = [float(row["cas"]) for row in measured("price-of-w", w=w)]
        p = statistics.fmean(cas)
        times.append(statistics.variance(cas) / (p * (1 - p) / 10_000))
    assert f"{statistics.fmean(times):.0f} times the binomial one" in " ".join(RESULTS.split())


def test_make_run_is_the_preset_in_a_hurry():
    """A fifth of the images, pictures in 20 steps, as the Makefile and docs/training.md say."""
    words = re.search(r"^QUICK := (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    quick = from_flags(vars(parser().parse_args(["--preset", "digits", "--overwrite", *words])))
    usual = PRESETS["digits"]
    share = quick.steps * quick.batch_size / (usual.steps * usual.batch_size)
    assert round(share, 1) == 0.2 and quick.sampling_steps == 20
    same = {"steps", "batch_size", "classifier_steps", "judge_steps", "sampling_steps"}
    assert {k for k, v in vars(quick).items() if v != getattr(usual, k)} <= same
