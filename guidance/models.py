"""TEMPORARY: what train/'s core still imports, until helper TRAIN's branch is merged. Drop it."""

from guidance.app.models import Models, load_models

__all__ = ["Models", "load_models"]
