"""Bring docs/ja after notebooks/ and README.md: python docs/ja/sync.py [--translated].

Code cells and outputs are copied. A text is the translation of the English cell with the same id,
and keeps the hash of the English that it translates: where this has changed since, a test fails
until somebody has translated it again and says so with --translated.
"""

import argparse
import hashlib
import re
from copy import deepcopy
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAMP = re.compile(r"<!-- English: (.+?)(?: \[(\w+)\])? -->")


def stamp(english: str) -> str:
    """What says that a translation is of this text."""
    return hashlib.sha256(english.encode()).hexdigest()[:16]


def sections(page: str) -> dict[str, str]:
    """The parts of a Markdown page by their headings, of the first and the second level."""
    parts = re.split(r"^##? ", page, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part for part in parts}


def follow(
    english: nbformat.NotebookNode, japanese: nbformat.NotebookNode, translated: bool = False
) -> nbformat.NotebookNode:
    """The English notebook with the Japanese texts, and English ones where there are none yet."""
    new, texts = deepcopy(english), {cell.id: cell for cell in japanese.cells}
    for cell in new.cells:
        if cell.cell_type == "markdown":
            now, own = stamp(cell.source), texts.get(cell.id, cell)
            of = own.metadata.get("english", "")
            if of != now:
                print(f"{'now' if translated else 'not yet'} translated: {cell.source[:70]!r} …")
            cell.source = own.source
            cell.metadata["english"] = now if translated else of
    return new


def main() -> None:
    """Copy what is copied; with --translated, say that every text is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--translated", action="store_true", help="every text is up to date")
    translated = parser.parse_args().translated
    for path in sorted(HERE.glob("*.ipynb")):
        english = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
        new = follow(english, nbformat.read(path, as_version=4), translated)
        nbformat.write(new, path)
    if translated:
        parts = sections((ROOT / "README.md").read_text())
        page = STAMP.sub(
            lambda found: f"<!-- English: {found[1]} [{stamp(parts[found[1]])}] -->",
            (HERE / "README.md").read_text(),
        )
        (HERE / "README.md").write_text(page)


if __name__ == "__main__":
    main()
