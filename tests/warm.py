"""What takes seconds to import, training's first step included: once, for all of `forked`'s.

No step is made: its threads would hold locks that a fork never gets back.
"""

import torch._dynamo  # noqa: F401 (imported by the first optimiser)

import train.__main__  # noqa: F401
