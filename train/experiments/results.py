"""Measured rows in a CSV file that an interrupted sweep goes on with."""

import csv
from collections.abc import Sequence
from pathlib import Path

from guidance.command import replacing

Value = str | float | int
Row = dict[str, Value]


class Results:
    """The rows of one CSV file. Numbers are written with six digits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.is_file():
            with open(path, newline="") as file:
                self.rows = [{k: _value(v) for k, v in row.items()} for row in csv.DictReader(file)]

    def matching(self, key: Row) -> list[Row]:
        """The rows that have these values in these columns."""
        return [row for row in self.rows if all(row.get(k) == v for k, v in key.items())]

    def expect(self, columns: Sequence[str]) -> None:
        """ValueError if the rows that are there lack one of these columns, or none can be added."""
        if self.path.is_dir():
            raise ValueError(f"{self.path} is a directory, and should be a CSV file")
        missing = [c for c in columns if self.rows and c not in self.rows[0]]
        if missing:
            raise ValueError(
                f"{self.path} is of another version, without {missing[0]}; move it away"
            )

    def add(self, rows: Sequence[Row]) -> None:
        """Append the rows of one job: all of them or, if it is killed meanwhile, none.

        ValueError if their columns are not the file's.
        """
        if self.rows and list(self.rows[0]) != list(rows[0]):
            raise ValueError(
                f"{self.path} has the columns {', '.join(self.rows[0])}, which are not those of "
                f"this version ({', '.join(rows[0])}); move it away"
            )
        every = [*self.rows, *rows]
        with replacing(self.path) as partial, open(partial, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: _text(v) for k, v in row.items()} for row in every)
        self.rows = [{k: _value(_text(v)) for k, v in row.items()} for row in every]


def _text(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
