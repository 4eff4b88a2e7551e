"""The commands. `python scripts/train.py` and, for who prefers it, `python -m scripts.train`."""

import sys
from pathlib import Path

FOLDER = str(Path(__file__).parent)
if FOLDER not in sys.path:  # where they find `parts`, as they do when they are started by their path
    sys.path.insert(0, FOLDER)
