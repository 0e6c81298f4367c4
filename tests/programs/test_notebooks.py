"""The notebooks: what is stored in them is what they make. (test_notebooks_run.py runs them.)"""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))

from execute import fingerprint  # noqa: E402

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.name for path in PATHS]
notebooks = pytest.mark.parametrize("path", PATHS, ids=NAMES)


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def prose(path):
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_there_are_nine():
    assert [name[:3] for name in NAMES] == [f"0{k}_" for k in range(9)]


@notebooks
def test_it_finds_its_modules_wherever_it_starts(path):
    """From the repository's root as well as from notebooks/."""
    first = code_cells(path)[0].source
    assert first.index('sys.path.append("notebooks")') < first.index("from style import")


@pytest.mark.parametrize("path", PATHS[1:7], ids=NAMES[1:7])
def test_it_derives_asks_before_it_shows_and_has_exercises(path):
    text = prose(path)
    assert text.count("> **Predict.**") >= 3
    assert re.search(r"\*\*Why|because", text)
    assert "## Exercises\n" in text and f"(solutions/{path.stem}.py)" in text
    assert sum("# your line here" in cell.source for cell in code_cells(path)) in (2, 3)


def test_the_prologue_maps_the_others():
    links = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", prose(PATHS[0]))
    assert links == NAMES[1:]


@notebooks
def test_the_stored_outputs_belong_to_the_code(path):
    """If this fails: python notebooks/execute.py, and commit what it writes."""
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.get("fingerprint") == fingerprint(notebook)
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@notebooks
def test_the_stored_outputs_are_clean(path):
    """No error, no warning, no progress bar, nothing of the machine that made them."""
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.output_type in ("stream", "display_data", "execute_result")
            assert output.get("name") != "stderr", output.text
            texts = [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
            for text in texts:
                assert not re.search(r"Warning|[A-Z]:\\|/(home|root|tmp|work|Users)/", text)


@notebooks
def test_it_is_small(path):
    assert path.stat().st_size < 1_500_000


@notebooks
def test_it_says_what_to_try_and_asks(path):
    text = prose(path)
    assert "## Try" in text and "## Questions" in text
    answers = re.findall(r"<details><summary>Answer</summary>\n.+?</details>", text, re.DOTALL)
    assert 2 <= len(answers) <= 3
    assert text.count("<details>") == len(answers) == len(re.findall(r"^\*\*\d\.\*\* ", text, re.M))


@notebooks
def test_no_text_is_longer_than_a_screen(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            visible = re.sub(r"<details>.+?</details>", "", cell.source, flags=re.DOTALL)
            assert len(visible.splitlines()) <= 45, cell.source[:80]


@notebooks
def test_no_code_is_longer_than_a_screen(path):
    """Nor wider than JupyterLab's column at 1440 pixels, where it would be wrapped."""
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= 40, cell.source[:80]
    for block in re.findall(r"^```python\n(.+?)^```$", prose(path), re.DOTALL | re.MULTILINE):
        assert max(map(len, block.splitlines())) <= 100, block


@notebooks
def test_nothing_is_shown_that_nobody_asked_for(path):
    """A last line without a semicolon shows its value: a whole pipeline, or where a figure is."""
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.output_type != "execute_result", cell.source


@notebooks
def test_links_lead_somewhere_in_the_folder_that_jupyterlab_serves(path):
    """`make notebooks` serves a folder, and what lies outside can't be opened."""
    found = re.search(
        r"jupyter lab --ServerApp.root_dir=(\S+) (\S+)", (ROOT / "Makefile").read_text()
    )
    served, opened = (ROOT / part for part in found.groups())
    assert opened in PATHS
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose(path)):
        if "://" not in link and "." in link:
            target = (path.parent / link).resolve()
            assert target.is_file() and target.is_relative_to(served.resolve()), link


def test_what_is_kept_is_asked_for_anew_when_anything_it_reads_is_another():
    """A cell run again gives the same object; another source, argument or global does not."""
    from style import kept

    scope = {"kept": kept, "made": [], "factor": 2}
    cell = "@kept\ndef double(x):\n    made.append(x)\n    return [factor * x]\n"
    exec(cell, scope)
    first = scope["double"](3)
    assert first == [6] and scope["double"](3) is first
    exec(cell, scope)
    assert scope["double"](3) is first and scope["made"] == [3]
    assert scope["double"](4) == [8]
    scope["factor"] = 5
    assert scope["double"](3) == [15]
    exec(cell.replace("factor * x", "factor + x"), scope)
    assert scope["double"](3) == [8] and scope["made"] == [3, 4, 3, 3]


def test_what_is_kept_reads_globals_and_no_attributes():
    """A cell further down may define a name that is an attribute here, and none that is read."""
    from style import kept

    scope = {"kept": kept, "made": [], "size": None}
    exec(
        "@kept\ndef real(x):\n    made.append(x)\n    return [(lambda: size or x.real)()]\n", scope
    )
    first = scope["real"](3)
    scope["append"] = 1
    assert scope["real"](3) is first
    scope["size"] = 7
    assert scope["real"](3) == [7]


def test_what_is_kept_may_be_asked_for_by_name():
    """x=3 is 3, and no other; a default that is left out counts, also when it has changed."""
    from style import kept

    scope = {"kept": kept, "made": []}
    cell = "@kept\ndef power(x, n=2, *, sign=1):\n    made.append(x)\n    return [sign * x**n]\n"
    exec(cell, scope)
    power = scope["power"]
    first = power(3)
    assert first == [9] and all(power(**named) is first for named in ({"x": 3}, {"n": 2, "x": 3}))
    assert power(3, 2, sign=1) is first and scope["made"] == [3]
    assert power(x=4) == [16] and power(3, n=3) == [27] and power(x=3, sign=-1) == [-9]
    assert power(2, n=3) == [8] and power(3, n=2) is first
    exec(cell.replace("n=2", "n=4"), scope)
    assert scope["power"](3) == [81] and scope["power"](n=2, x=3) is first
