"""The notebooks run: from top to bottom, then every cell once more, the last one first.

A cell makes the same text and the same picture both times, so a reader may go back and run any of
them again. What is @kept is not made a second time; that it would be the same is seen from the
first: no cell draws a random number that it has not seeded. Then what the notebook says to try.
"""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))

from execute import kernel  # noqa: E402

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Half of them as JupyterLab starts them, half as an editor does that was opened on the repository.
# What a cell that draws from the global generator without a seed of its own leaves behind.
STATE = "print(hash(torch.get_rng_state().numpy().tobytes())) if 'torch' in globals() else None"
STARTED_IN = {path: (ROOT / "notebooks", ROOT)[k % 2] for k, path in enumerate(PATHS)}


def made(outputs):
    """What a reader sees of a cell's outputs: its text, its pictures."""
    text = "".join(out.text for out in outputs if out.output_type == "stream")
    shown = [out.data for out in outputs if "data" in out]
    return text, [data.get("image/png", "") for data in shown]


def tries(cells):
    """The code that stands in the text, in its order: whole cells for the reader to paste."""
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.findall(r"^```python\n(.+?)^```$", prose, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_it_runs_forwards_backwards_and_what_it_says_to_try(path, tmp_path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert code
    with kernel(STARTED_IN[path]) as run:
        first, before = [], None
        for source in code:
            first.append(made(run(nbformat.v4.new_code_cell(source))))
            after = made(run(nbformat.v4.new_code_cell(STATE)))
            assert after == before or "manual_seed" in source or source == code[0], source
            before = after
        for k in reversed(range(len(code))):
            assert made(run(nbformat.v4.new_code_cell(code[k]))) == first[k], code[k]
        run(nbformat.v4.new_code_cell(f"import os\nos.chdir({str(tmp_path)!r})"))
        assert tries(cells)
        for source in tries(cells):
            run(nbformat.v4.new_code_cell(source))
            asked = nbformat.v4.new_code_cell("print(globals().get('_exit_code', 0))")
            assert made(run(asked))[0] == "0\n", source  # a command stops without an exception
