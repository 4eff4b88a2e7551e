"""Being asked to stop: Ctrl-C from a person, SIGTERM from a scheduler. The loop looks between steps, saves and ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """The training was asked to stop, and a checkpoint was saved first. `signal`: by SIGINT (Ctrl-C) or by SIGTERM."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(f"stopped by {signal.Signals(number).name}, everything is saved")
        self.signal = signal.Signals(number)


class Asked:
    """Whether a signal has come: its `number`, or None."""

    number: int | None = None


@contextmanager
def interruption() -> Iterator[Asked]:
    """Turn SIGINT and SIGTERM into something to look at between steps.

    A second Ctrl-C stops at once. A second SIGTERM does not: some schedulers send several, and what must not wait gets
    a SIGKILL after them anyway, which loses nothing that a checkpoint holds.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals reach the main thread alone
        return

    def handler(number, frame):
        asked.number = number
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, handler)
    try:
        yield asked
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
