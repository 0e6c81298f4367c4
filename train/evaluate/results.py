"""Measured rows in a CSV file that an interrupted sweep goes on with."""

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from unet.files import check_writable, replacing

try:
    import pandas as pd
    import tabulate  # noqa: F401 (pandas' to_markdown)
except ImportError as error:  # a ValueError, which the commands make one line of
    raise ValueError(
        f"results need {error.name}: pip install 'ddpm-guidance[experiments]'"
    ) from error

Row = dict[str, str | float | int]
# Every other column holds numbers.
TEXT = ("data", "weights", "dtype", "sampler", "method", "group", "run", "preset", "work", "name",
        "given", "concept", "spin", "setting")  # fmt: skip


class Results:
    """The rows of one CSV file as a DataFrame. Numbers are written with six digits.

    ValueError that names the file if it is none such.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read()

    def read(self) -> None:
        """What is in the file now, other processes' rows as well."""
        try:
            self._text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            self.rows = _parse(self._text)
        except (ValueError, IsADirectoryError) as error:
            reason = str(error).strip() or type(error).__name__
            raise ValueError(f"{self.path} is not a CSV file of results: {reason}") from error

    def matching(self, key: Row) -> pd.DataFrame:
        """The rows that have these values in these columns."""
        rows = self.rows
        for column, value in key.items() if len(rows) else ():
            rows = rows[rows[column] == value]
        return rows

    def expect(self, columns: Sequence[str]) -> None:
        """ValueError if there are rows, and they lack one of these columns."""
        missing = [c for c in columns if self._text and c not in self.rows]
        if missing:
            raise ValueError(
                f"{self.path} is of another version, without {missing[0]}; move it away"
            )

    def check_writable(self) -> None:
        """Before anything is measured: OSError if no rows could be added later."""
        with _alone(self.path):
            pass

    def add(self, rows: Sequence[Row], unless: Row | None = None) -> bool:
        """Append the rows of one job to what the file holds by now: all or, if killed, none.

        unless: False, and nothing, if rows match it: another process has done the job meanwhile.
        ValueError if their columns are not the file's.
        """
        with _alone(self.path):
            self.read()
            if unless and not self.matching(unless).empty:
                return False
            self._append(pd.DataFrame(rows))
        return True

    def arrange(self, jobs: Sequence[Row]) -> None:
        """Put the rows that match these jobs into the jobs' order; all others stay where they are.

        Sweeps that share a file add their rows as they come, and tables show what is first first.
        """
        with _alone(self.path):
            self.read()
            found = [i for job in jobs for i in self.matching(job).index]
            if found != sorted(found):
                order = self.rows.index.to_numpy().copy()
                order[sorted(found)] = found
                self._text = _lines(self.rows.loc[order])
                _write(self.path, self._text)
                self.rows = _parse(self._text)

    def _append(self, new: pd.DataFrame) -> None:
        if self._text and list(self.rows) != list(new):
            raise ValueError(
                f"{self.path} has the columns {', '.join(self.rows)}, which are not those of "
                f"this version ({', '.join(new)}); move it away"
            )
        end = "\n" if self._text and not self._text.endswith("\n") else ""
        self._text += end + _lines(new, header=not self._text)
        _write(self.path, self._text)
        self.rows = _parse(self._text)


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a CSV file, none if there is no file."""
    return Results(path).rows


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """The rows in the place of the file's."""
    _write(path, _lines(rows))


def markdown(table: pd.DataFrame) -> str:
    """The table as the docs have it."""
    return str(table.to_markdown(index=False, disable_numparse=True))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While no other process adds to the file. OSError that names it if it can't be written."""
    check_writable(path.parent)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # the latter on some network file systems
        raise OSError(f"{path} can't be written: {error}") from error
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _lines(rows: pd.DataFrame, header: bool = True) -> str:
    return str(
        rows.to_csv(
            index=False, header=header, float_format="%.6g", na_rep="nan", lineterminator="\n"
        )
    )


def _parse(text: str) -> pd.DataFrame:
    """The table in a CSV file's text. ValueError where a number should be and is none."""
    if not text:
        return pd.DataFrame()
    if len({len(line) for line in csv.reader(io.StringIO(text)) if line}) > 1:
        raise ValueError("its lines are of different lengths")
    rows = pd.read_csv(
        io.StringIO(text), dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=["nan"]
    )
    for column in rows.columns.difference(TEXT) if len(rows) else ():
        if not pd.api.types.is_numeric_dtype(rows[column]):
            raise ValueError(f"{column} should hold numbers")
    return rows
