"""Set-up of all tests: a quiet TensorFlow, and the fixtures that several files use."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.archive_server import server  # noqa: F401
