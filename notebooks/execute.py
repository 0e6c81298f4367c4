"""Run the notebooks (pytest --nbmake) and store what comes out: notebooks/execute.py [01 …]."""

import argparse
import hashlib
import os
import sys
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"


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


def stamp(path: Path) -> None:
    """Leave what belongs to the notebook: its fingerprint, and no trace of the run."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":  # a slider without its kernel is an empty box
            cell.outputs = [out for out in cell.outputs if WIDGET not in out.get("data", {})]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "fingerprint": fingerprint(notebook),
    }
    nbformat.write(notebook, path)


def main() -> int:
    """Execute the notebooks whose names begin with one of the arguments, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="such as 01 or 03_classifier_guidance.ipynb")
    names = tuple(Path(name).name for name in parser.parse_args().names) or ("",)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each kernel; two only wait for each other
    paths = [p for p in sorted(HERE.glob("[0-9][0-9]_*.ipynb")) if p.name.startswith(names)]
    code = pytest.main(["--overwrite", "--verbose", "--durations=0", *map(str, paths)])
    for path in paths if code == 0 else []:
        stamp(path)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
