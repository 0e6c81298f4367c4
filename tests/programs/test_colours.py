"""One palette: every plot takes its colours from one file, and one thing has one colour."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from guidance.app import colours
from train.evaluate.results import Results
from train.experiments.__main__ import EXPERIMENTS, experiment
from train.experiments.sweep import last_sweep

ROOT = Path(__file__).parents[2]
PALETTE = {colours.NULL, colours.ACCENT, *colours.CLASS}
GREYS = r"black|grey|silver|0\.\d+"  # of what is beside the curves: axes, chance, real images


def drawn(name, out="docs/results"):
    """{label: the colours that its curves have} of the plot of a CSV file that is shipped."""
    rows = last_sweep(Results(ROOT / out / f"{name}.csv"))
    found = {}
    for ax in experiment(name).plot(rows).axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            line = handle[0] if isinstance(handle, tuple) else handle  # with its error bars
            found.setdefault(label, set()).add(line.get_color())
    return found


def test_no_other_file_names_a_colour():
    """Nor by one of matplotlib's letters or words."""
    folders = ("notebooks", "train", "guidance")
    files = [
        f for name in folders for f in (ROOT / name).rglob("*") if f.suffix in (".py", ".ipynb")
    ]
    for path in {*files, ROOT / "docs/mixture_gif.py"} - {ROOT / "guidance/app/colours.py"}:
        text = path.read_text().replace('\\"', '"')
        hexes = re.findall(r'"(#[0-9a-fA-F]{6})"', text)
        words = re.findall(r'\b(?:color|colour)s?="([^"]+)"', text)
        letters = re.findall(r'"(?!ms")[bgrcmyk](?:[-:.*os]+)"', text)  # ms: a unit
        assert not hexes and not letters, (path, hexes, letters)
        assert all(re.fullmatch(GREYS, word) for word in words), (path, words)


def test_the_palette_costs_no_import():
    """A notebook that draws lines does not load what it has no use for."""
    code = "import sys, guidance.app.colours; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_curve_is_of_the_palette(name):
    for label, of in drawn(name).items():
        greys = {c for c in of if re.fullmatch(GREYS, c)}
        assert of - greys <= PALETTE, (label, of)


def test_one_thing_has_one_colour():
    """In every picture of the results that it is in."""
    target, removal, classifier = map(drawn, ("target", "removal", "classifier"))
    assert target["ε(p₊)"] == removal["no guidance"] == {colours.NONE}
    assert target["classifier-free"] == classifier["classifier-free"] == {colours.FREE}
    assert target["negative"] == removal["constant λ"] == {colours.NEGATIVE}
    assert target["negative, a sixth to a half"] == removal["constant λ, late"] == {colours.LATE}
    assert target["λ_0·p/(1 − p)"] == removal["λ_0·p/(1 − p)"] == {colours.POSTERIOR}
    assert len(set(map(str, target.values()))) == len(target)
    assert len(set(map(str, classifier.values()))) == len(classifier)


def test_plus_is_blue_and_minus_red():
    """What is said of p₊ and of p₋, where both are in one picture."""
    worlds = drawn("worlds")
    assert worlds["p₊ kept (share)"] == {colours.PLUS}
    assert worlds["p₋ left (share)"] == {colours.MINUS}
    for out in ("docs/results", "docs/results/scenes"):
        timing = drawn("timing", out)
        assert timing["judged as p₊"] == {colours.PLUS}
        assert timing["judged as p₋"] == {colours.MINUS}
    course = drawn("course")
    of_plus = {k for k in course if "epsilon_+" in k or "c₊" in k}
    assert len(of_plus) == 2 and all(course[k] == {colours.PLUS} for k in of_plus)
    assert all(colours.PLUS not in course[k] for k in set(course) - of_plus)
