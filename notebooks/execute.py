"""Run the notebooks and store what comes out: notebooks/execute.py [01 …]."""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of the code cells, the modules beside them, the palette, the weights and results.

    Other files are not in it: a change there that alters a picture wants a new execution.
    """
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    digest = hashlib.sha256(code.encode())
    for module in ("style", "playground", "sliders"):
        if f"from {module} import" in code:
            digest.update((HERE / f"{module}.py").read_bytes())
    digest.update((HERE.parent / "guidance/app/colours.py").read_bytes())
    for path in sorted((HERE.parent / "weights").glob("*/*.safetensors")):
        if f"weights/{path.parent.name}" in code:
            digest.update(path.read_bytes())
    for path in sorted((HERE.parent / "docs/results").glob("*.csv")):
        if f"{path.stem}.csv" in code or f'"{path.stem}"' in code:
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def kernel(directory: Path = HERE) -> Iterator[Callable[[nbformat.NotebookNode], list[Any]]]:
    """A kernel started in a directory: run(cell) stores what the cell puts out, and returns it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each kernel; two only wait for each other
    notebook = nbformat.v4.new_notebook()
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(directory)}},
    )

    def run(cell: nbformat.NotebookNode) -> list[Any]:
        notebook.cells.append(cell)
        return list(client.execute_cell(cell, len(notebook.cells) - 1).outputs)

    with client.setup_kernel():
        yield run


def stamp(notebook: nbformat.NotebookNode) -> None:
    """Leave what belongs to the notebook: its fingerprint, and no trace of the run."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":  # a slider without its kernel is an empty box
            cell.outputs = [out for out in cell.outputs if WIDGET not in out.get("data", {})]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "fingerprint": fingerprint(notebook),
    }


def main() -> None:
    """Execute the notebooks whose names begin with one of the arguments, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="such as 01 or 03_classifier_guidance.ipynb")
    names = tuple(Path(name).name for name in parser.parse_args().names) or ("",)
    for path in sorted(HERE.glob("[0-9][0-9]_*.ipynb")):
        if not path.name.startswith(names):
            continue
        notebook, start = nbformat.read(path, as_version=4), time.monotonic()
        with kernel() as run:
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    run(cell)
        stamp(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
