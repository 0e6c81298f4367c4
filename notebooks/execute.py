"""Run the notebooks from top to bottom and store what comes out: python notebooks/execute.py [01 …]

With --check nothing is written. Needs `pip install -e ".[notebooks]"`.
"""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"


def notebooks() -> list[Path]:
    """All of them, in the order in which they are read."""
    return sorted(HERE.glob("[0-9][0-9]_*.ipynb"))


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of the code cells, style.py, and the weights and results that the cells name.

    The libraries below are not in it: a change there that alters a picture wants a new execution.
    """
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    digest = hashlib.sha256(code.encode() + (HERE / "style.py").read_bytes())
    for path in sorted((HERE.parent / "weights").glob("*/*.safetensors")):
        if f"weights/{path.parent.name}" in code:
            digest.update(path.read_bytes())
    for path in sorted((HERE.parent / "docs/results").glob("*.csv")):
        if f"{path.stem}.csv" in code or f'"{path.stem}"' in code:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def execute(path: Path, timeout: int) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; nbclient's CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        record_timing=False,
    )
    client.execute(env=environment)
    for cell in notebook.cells:  # a slider without its kernel is an empty box
        if cell.cell_type == "code":
            cell.outputs = [
                output for output in cell.outputs if WIDGET not in output.get("data", {})
            ]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "fingerprint": fingerprint(notebook),
    }
    return notebook


def main() -> int:
    """Execute the notebooks whose names begin with one of the arguments, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="such as 01 or 03_classifier_guidance.ipynb")
    parser.add_argument("--check", action="store_true", help="run them, but write nothing")
    parser.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    args = parser.parse_args()
    names = tuple(Path(name).name for name in args.names) or ("",)
    for path in notebooks():
        if path.name.startswith(names):
            start = time.perf_counter()
            notebook = execute(path, args.timeout)
            if not args.check:
                nbformat.write(notebook, path)
            print(f"{path.name}: {time.perf_counter() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
