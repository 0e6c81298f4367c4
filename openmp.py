"""How long OpenMP's threads spin at a barrier; imported by every package before it imports torch.

libgomp reads the variable once, when torch loads it. By its own default threads spin so long that a
small network's thousands of barriers a second stand still when another program has one of the
cores. Who imports torch first, before any package of ours, has libgomp's default.
"""

import os

SPINCOUNT = "30000"  # a tenth of libgomp's: as fast on free cores, see docs/speed.md

if "OMP_WAIT_POLICY" not in os.environ:  # which says the same in words
    os.environ.setdefault("GOMP_SPINCOUNT", SPINCOUNT)
