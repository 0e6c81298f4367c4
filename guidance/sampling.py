"""TEMPORARY: what train/'s core still imports, until helper TRAIN's branch is merged. Drop it."""

from typing import Any

from guidance.app.draw import draw, stream_seed

__all__ = ["Request", "Sampler", "draw", "stream_seed"]
Request = Sampler = Any
