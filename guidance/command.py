"""What the project's commands share: bad input is one line on stderr and exit code 2."""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import torch


class Parser(argparse.ArgumentParser):
    """argparse without the usage text in front of an error, and without abbreviated flags."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for word in sys.argv[1:] if args is None else args:
            # argparse takes the value "--" for an empty list
            if word.startswith("--") and word.endswith("=--"):
                self.error(f"argument {word[:-3]}: expected one argument")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help shows every flag)\n")


def floats(text: str) -> list[float]:
    """The numbers in "0,1.5,3", as an argparse type."""
    return _split(text, float, "numbers")


def integers(text: str) -> list[int]:
    """The integers in "0,5,10", as an argparse type."""
    return _split(text, int, "integers")


def _split(text: str, kind: type, what: str) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be {what} with commas between, got {text!r:.80}"
        ) from None


def choose_device(name: str) -> "torch.device":
    """The device that --device names; ValueError if this machine does not have it."""
    import torch  # here, so that --help need not wait for it

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {name} can't be used here: {reason}") from error
    return device


def check_counts(args: argparse.Namespace, most: int, *names: str) -> None:
    """ValueError that names the flag unless each of these arguments lies in 1..most."""
    for name in names:
        value = getattr(args, name)
        if not 1 <= value <= most:
            bound = "at least 1" if value < 1 else f"at most {most}"
            raise ValueError(f"--{name.replace('_', '-')} must be {bound}, got {value}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another path to write to, which takes the place of `path` once it is whole.

    OSError that names `path`, which is then left as it was, if it can't be written.
    """
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"{path} can't be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never there
            partial.unlink()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are for whoever runs us there
        return
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def run(prog: str, command: Callable[[], int]) -> int:
    """The exit code of command(); ValueError and OSError are the user's, and become one line."""
    try:
        with _sigterm_as_ctrl_c():
            return command()
    except (ValueError, OSError) as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        print(f"{prog}: error: out of memory; fewer images at once may do", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
