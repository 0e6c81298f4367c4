"""How everything that the project writes gets to disk: whole, or not at all."""

import contextlib
import os
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
