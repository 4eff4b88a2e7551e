"""For whom a graph is traced: for TensorFlow's own executor, or for XLA.

Some formulations suit one and are slow in the other. Which one is at work cannot be seen from inside a function that is
being traced; whoever compiles it says so, as `loops/steps.py` does.
"""

import contextlib
import itertools
import threading
from collections.abc import Iterator

_thread = threading.local()


@contextlib.contextmanager
def for_xla() -> Iterator[None]:
    """Let what is traced inside choose formulations that XLA compiles well."""
    outer = getattr(_thread, "numbers", None)
    _thread.numbers = itertools.count(1)
    try:
        yield
    finally:
        _thread.numbers = outer


def is_xla() -> bool:
    """Return whether XLA will compile what is being traced, as far as anyone has said."""
    return getattr(_thread, "numbers", None) is not None


def number() -> int:
    """Return 1, 2, 3 ... inside of one `for_xla`: for operations of which no two shall be the same to XLA."""
    return next(_thread.numbers)
