"""Training and evaluation: `python -m train`, `python -m train.evaluate`."""

import openmp  # noqa: F401 (before torch)
