"""The exercises: solutions pass the laws, and each known mistake is called by its name."""

import importlib
import re
import sys
from pathlib import Path

import nbformat
import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))

from exercises import check  # noqa: E402
from exercises.checker import judge  # noqa: E402
from exercises.diffusion import DIFFUSION  # noqa: E402
from exercises.guidance import GUIDANCE  # noqa: E402
from exercises.law import holds  # noqa: E402
from exercises.negative import NEGATIVE  # noqa: E402

EXERCISES = DIFFUSION | GUIDANCE | NEGATIVE
MISTAKES = [(name, sentence) for name, e in EXERCISES.items() for sentence in e.mistakes]
SOLUTIONS = sorted((ROOT / "notebooks/solutions").glob("*.py"))
BLANK = "# your line here"


def cells_with_blanks(number):
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    return [c.source for c in cells if c.cell_type == "code" and BLANK in c.source]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_projects_own_function_passes(name):
    verdict, sentence = judge(EXERCISES[name], EXERCISES[name].right)
    assert verdict is True and EXERCISES[name].laws, sentence


@pytest.mark.parametrize(("name", "sentence"), MISTAKES)
def test_a_mistake_is_named_and_breaks_the_law(name, sentence):
    """Two roads: the checker recognises it, and the law that it runs would have caught it."""
    exercise = EXERCISES[name]
    assert judge(exercise, exercise.mistakes[sentence]) == (False, sentence)
    made = exercise.adapt(exercise.mistakes[sentence])
    assert not all(holds(law, made) for law in exercise.laws)


def test_a_mistake_that_nobody_foresaw_fails_the_law():
    for name, wrong in {
        "CFG Eq. 6": lambda c, n, w: (1 + w) * c - w * n + 0.01,
        "DNG Eq. 10": lambda p: 1.1 * p / (1 - p),
    }.items():
        verdict, sentence = judge(EXERCISES[name], wrong)
        assert verdict is False and "does not hold" in sentence and "should be" in sentence


def test_a_blank_an_error_and_a_shape_are_said():
    exercise = EXERCISES["CFG Eq. 6"]
    assert judge(exercise, lambda c, n, w: ...) == (None, "still blank.")
    assert judge(exercise, lambda c, n, w: c + ...) == (None, "still blank.")
    assert "ZeroDivisionError" in judge(exercise, lambda c, n, w: c / (0 / 0))[1]
    assert "shape" in judge(exercise, lambda c, n, w: c.mean())[1]
    with pytest.raises(ValueError, match="name must be one of DDPM Eq. 4"):
        check("eq-6", exercise.right)


@pytest.mark.parametrize(
    "window",
    [
        lambda t, start, stop: stop < t <= start,
        lambda t, start, stop: stop < t and t <= start,
        lambda t, start, stop: stop < t & t <= start,  # & binds first
    ],
)
def test_two_conditions_on_a_tensor_are_told_how_to_be_joined(window):
    def line(t, n, null, start, stop):
        return torch.where(window(t, start, stop), n, null)

    verdict, sentence = judge(EXERCISES["NegPrompt Eq. 5"], line)
    assert verdict is False and "`&`" in sentence and "parentheses" in sentence
    assert "Error" not in sentence


def test_a_draw_without_the_generator_is_seen():
    """Right in distribution, so that no law and no share would find it."""
    for name, line in {
        "CFG Alg. 1": lambda c, p, null, g: torch.where(torch.rand(c.shape) < p, null, c),
        "DDPM Alg. 1": lambda n, T, g: torch.randint(1, T + 1, (n,)),
    }.items():
        verdict, sentence = judge(EXERCISES[name], line)
        assert verdict is False and "generator=generator" in sentence


def test_no_label_dropped_and_every_label_dropped_are_told_apart():
    def line(where):
        return lambda c, p, null, g: torch.where(torch.full(c.shape, where), null, c)

    none, every = (judge(EXERCISES["CFG Alg. 1"], line(where)) for where in (False, True))
    assert none[0] is every[0] is False
    assert none[1].startswith("no label is dropped")
    assert every[1].startswith("all labels are dropped")


def test_other_right_lines_are_right():
    """Written otherwise, or drawn otherwise from the same generator."""
    for name, line in {
        "CFG Eq. 6": lambda c, n, w: n + (1 + w) * (c - n),
        "CFG Alg. 1": lambda c, p, null, g: torch.where(
            torch.bernoulli(torch.full(c.shape, p), generator=g) == 1, null, c
        ),
        "DNG Eq. 10": lambda p: 1 / (1 / p - 1),
    }.items():
        assert judge(EXERCISES[name], line)[0] is True, name


@pytest.mark.parametrize("name", EXERCISES)
def test_what_a_law_says_is_said_in_a_sentence(name):
    """Not its name alone: the words of the test, on one line."""
    for law in EXERCISES[name].laws:
        _, sentence = judge(EXERCISES[name], EXERCISES[name].right)
        told = getattr(importlib.import_module(law.file), law.test).__doc__
        assert law.test in sentence and "\n" not in sentence
        assert len(told) > 20 and " ".join(told.split()) in sentence


def test_there_is_a_solution_for_each_notebook_and_an_exercise_behind_each():
    assert [path.name[:2] for path in SOLUTIONS] == ["01", "02", "03", "04", "05", "06"]
    named = re.findall(r'^check\("(.+?)"', "\n".join(p.read_text() for p in SOLUTIONS), re.M)
    assert sorted(named) == sorted(EXERCISES)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.name)
def test_a_solution_is_the_notebooks_cell_with_its_blanks_filled(path, capsys):
    """Line by line the same but for the blanks; executed, every check says that it is right."""
    given = "\n\n\n".join(cells_with_blanks(path.name[:2])).splitlines()
    solved = path.read_text().splitlines()
    solved = solved[solved.index(given[0]) :]  # below its docstring
    assert len(given) == len(solved) and any(BLANK in line for line in given)
    for asked, filled in zip(given, solved, strict=True):
        if BLANK in asked:
            assert "..." in asked and "..." not in filled
        else:
            assert asked == filled
    exec(compile(path.read_text(), str(path), "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == path.read_text().count("\ncheck(") >= 2
    assert all(line.startswith("✓ ") for line in said), said
