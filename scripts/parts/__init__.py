"""What the commands share; nothing here is typed by a person.

A command belongs to the checkout that it lies in: that one's packages are found first, installed or not.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
