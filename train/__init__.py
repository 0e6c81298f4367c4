"""Training and evaluation: `python -m train`, `python -m train.evaluate`."""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # before torch, as in ddpm
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
