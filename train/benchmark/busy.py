"""`python -m train.benchmark.busy`: training beside two other busy programs, and without them."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

import pandas as pd

from guidance.app.flags import Parser, add_flags, flag, read, run
from train.config import PRESETS
from train.evaluate.results import markdown, write_rows

# The end of this process is theirs, however it comes.
PEER = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
SPIN = {"libgomp's": "300000", "ours": "30000"}  # what libgomp takes where nothing is said


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of `python -m train.benchmark.busy`."""

    presets: tuple[str, ...] = flag(("digits", "mnist", "cifar10"), "what is trained")
    data_dir: str = flag("data", "where torchvision's data sets are")
    seconds: float = flag(20.0, "of each cell, after its first step", least=1)
    out: str = flag("docs/results/busy-cpu.csv", "of the rows", metavar="FILE")


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """So many programs in sessions of their own, as a browser's: Linux shares cores by session."""
    command = ["nice", "-n", "10", sys.executable, "-c", PEER]
    peers = [subprocess.Popen(command, start_new_session=True) for _ in range(programs)]
    try:
        yield
    finally:
        for peer in peers:
            peer.kill()
            peer.wait()


def speed(preset: str, threads: str, spin: str, flags: Flags) -> float:
    """Images a second of `python -m train`, from its first logged step to its last."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "run/log.jsonl"
        command = [sys.executable, "-m", "train", "--preset", preset, "--data-dir", flags.data_dir]
        command += ["--out", str(log.parent), "--threads", threads, "--log-every", "1"]
        command += ["--device", "cpu", "--sample-every", "1000000"]
        env["GOMP_SPINCOUNT"] = SPIN[spin]
        process = subprocess.Popen(command, env=env, stdout=DEVNULL, stderr=DEVNULL)
        try:
            while not log.exists() or log.read_text().count("\n") < 2:
                if process.poll() is not None:
                    raise OSError(f"it has ended too soon: {' '.join(command)}")
                time.sleep(0.1)
            time.sleep(flags.seconds)
        finally:
            process.send_signal(signal.SIGTERM)  # saves the state, after the step at hand
            process.wait()
        entries = [json.loads(line) for line in log.read_text().splitlines()]
    first, last = entries[0], entries[-1]
    images = (last["step"] - first["step"]) * PRESETS[preset].batch_size
    return float(images / (last["seconds"] - first["seconds"]))


def measure(flags: Flags) -> int:
    """Every cell; rows go to the CSV file, the table to the screen."""
    rows = []
    for preset in flags.presets:
        for spin, threads in itertools.product(SPIN, ("1", "2", "auto")):
            row: dict[str, object] = {"preset": preset, "spin": spin}
            row["setting"] = f"--threads {threads}"  # in other files threads are a number
            for programs in (0, 2):
                with busy(programs):
                    value = speed(preset, threads, spin, flags)
                row["busy" if programs else "free"] = value
            print(row, file=sys.stderr)
            rows.append(row)
    write_rows(Path(flags.out), pd.DataFrame(rows))
    print(markdown(table(pd.DataFrame(rows))))
    return 0


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Images/s of each cell, and the busy ones as a share of the best busy cell of the preset."""
    lines = rows.round(1).astype(str)
    best = rows.groupby("preset")["busy"].transform("max")
    lines["of the best"] = (rows["busy"] / best).map("{:.2f}".format)
    return lines.rename(columns={"spin": "spin count", "free": "free, images/s",
                                 "busy": "busy, images/s"})  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    prog = "python -m train.benchmark.busy"
    parser = Parser(prog=prog, description="Images/s of training, alone and beside two programs.")
    add_flags(parser, Flags)
    given = vars(parser.parse_args(arguments))
    return run(prog, lambda: measure(read(Flags, given)))


if __name__ == "__main__":
    sys.exit(main())
