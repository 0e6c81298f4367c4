"""How everything that the project writes gets to disk: whole, or not at all."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Another path to write to, which takes the place of `path` once it is whole and on disk.

    keep: where what was there before goes; without it, nowhere.
    OSError that names `path`, which is then left as it was, if it can't be written.
    """
    partial = path.with_name(f"{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"{path} can't be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never there
            partial.unlink()


def check_writable(directory: Path) -> None:
    """Make the directory if it is missing. OSError that names it if no file can be made in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise OSError(f"{directory} can't be written to: {error}") from error


@contextlib.contextmanager
def vacant(path: Path) -> Iterator[Path]:
    """`path`, or the first of STEM-2.SUFFIX, STEM-3.SUFFIX, … that is nobody's, to be written.

    An empty file holds the place from the start, so that two processes never have the same.
    OSError that names `path` if it can't be made.
    """
    first = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path} can't be written: {error}") from error
    for number in itertools.count(2):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o666))
            break
        except FileExistsError:
            path = first.with_name(f"{first.stem}-{number}{first.suffix}")
        except OSError as error:
            raise OSError(f"{path} can't be written: {error}") from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            if not path.stat().st_size:  # nothing came of it
                path.unlink()
