"""The notebooks: they run from top to bottom, and what is stored in them is what they make."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
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


def test_there_are_six():
    assert [name[:3] for name in NAMES] == [f"0{k}_" for k in range(1, 7)]


@notebooks
def test_it_runs_from_top_to_bottom(path):
    """In a process of its own: the kernel's warnings are not this project's."""
    command = [sys.executable, str(ROOT / "notebooks/execute.py"), "--check", path.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    assert path.name in done.stdout


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


def test_the_runner_says_which_cell_failed(tmp_path):
    """An error in a cell is an exit code, and names the error."""
    script = (ROOT / "notebooks/execute.py").read_text(encoding="utf-8")
    (tmp_path / "execute.py").write_text(script, encoding="utf-8")
    (tmp_path / "style.py").write_text("")
    cell = nbformat.v4.new_code_cell("raise RuntimeError('on purpose')", id="only")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "01_broken.ipynb")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "execute.py")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode != 0 and "on purpose" in done.stderr
