"""Training and evaluation: `python -m train`, `python -m train.evaluate`."""
