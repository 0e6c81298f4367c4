"""`make soak`: the long part of what test_interruptions, test_hostile and test_fuzz try.

Thirty kills, the whole fuzz, full disks, hostile files; KILLS=3 FUZZ=1 for a short one. A table
says what was tried and what was lost; the exit code is 0 if nothing was.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
KILLS, FUZZ = os.environ.get("KILLS", "30"), os.environ.get("FUZZ", "10")
PARTS = {  # what, the tests, those of them that are selected
    "kill -9": ("test_interruptions.py", "killed"),
    "full disk, no right to write, signals": ("test_interruptions.py", "not killed"),
    "hostile weights": ("test_hostile.py", ""),
    "hostile states and configurations": ("test_states.py", ""),
    "corrupt data files": ("test_data_files.py", ""),
    "fuzz: functions": ("test_fuzz.py", "functions"),
    "fuzz: flags": ("test_fuzz.py", "command"),
}


def main() -> int:
    bad, rows = 0, []
    for what, (file, selected) in PARTS.items():
        with tempfile.TemporaryDirectory() as directory:
            counts = Path(directory) / "counts.json"
            environment = {"KILLS": KILLS, "FUZZ": FUZZ, "COUNTS": str(counts)}
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                f"tests/reliability/{file}",
                "-k",
                selected,
            ]
            begin = time.perf_counter()
            done = subprocess.run(
                command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
            )
            seconds = time.perf_counter() - begin
            found = json.loads(counts.read_text()) if counts.exists() else {}
        passed, failed = (
            int((re.search(rf"(\d+) {word}", done.stdout) or [0, 0])[1])
            for word in ("passed", "failed")
        )
        kind = what.removeprefix("fuzz: ")
        tried = found.get(f"{kind}: tried", passed + failed)
        refused = found.get(f"{kind}: refused", "")
        worked = found.get(f"{kind}: worked", "")
        if done.returncode:
            bad += 1
            print(done.stdout)
        lost = failed or ("?" if done.returncode else 0)
        if writing := found.get("kill -9: while the state was written"):
            what += f" at random moments, {writing} while the state was written"
        rows.append([what, tried, refused, worked, lost, f"{seconds:.0f}"])
    print("| what | tried | refused with a message | worked | lost | seconds |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    return bad


if __name__ == "__main__":
    sys.exit(main())
