"""How a command runs and ends: what is the user's to mend is one line on stderr and exit code 2."""

import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator


def run(
    prog: str, command: Callable[[], int], too_large: str = "fewer images at once may do"
) -> int:
    """The exit code of command(); ValueError and OSError are the user's, and become one line.

    too_large: what may help where the memory is too small.
    """
    try:
        with _sigterm_as_ctrl_c():
            return command()
    except (ValueError, OSError) as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not _too_large(error):
            raise
        print(f"{prog}: error: out of memory; {too_large}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130


def write_any_text() -> None:
    """Have stdout and stderr replace the letters that they can't show: ∅ in a pipe on Windows."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):  # what can't be told where it is: some terminals
                stream.reconfigure(errors="replace")


def _too_large(error: Exception) -> bool:
    """Whether memory was too small; torch has a type for that, but not on every device."""
    torch = sys.modules.get("torch")  # not to be waited for by --help
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return any(
        text in str(error) for text in ("DefaultCPUAllocator: ", "MPS backend out of memory")
    )


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
