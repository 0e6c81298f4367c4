# ruff: noqa: F401
"""What takes seconds to import, training's first step included: once, for all of `forked`'s.

No step is made: its threads would hold locks that a fork never gets back.
"""

import matplotlib.backends.backend_agg  # by the first picture
import matplotlib.figure
import sklearn.datasets  # by the digits
import sklearn.model_selection
import torch._dynamo  # by the first optimiser

import train.__main__
