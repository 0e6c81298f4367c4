"""What was tried, for the table of `make soak`."""

import atexit
import json
import os
from collections import Counter
from pathlib import Path

COUNT: Counter[str] = Counter()
if "COUNTS" in os.environ:
    atexit.register(lambda: Path(os.environ["COUNTS"]).write_text(json.dumps(COUNT)))
