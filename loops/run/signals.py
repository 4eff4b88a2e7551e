"""Being asked to stop by a person, a scheduler or a closed terminal. The loop looks between steps, saves and ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Ctrl-C; a scheduler's end; a terminal that was closed, or a connection that was lost; what Slurm sends some time ahead
# of the end where it is asked to (`sbatch --signal=USR1@60`).
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Interrupted(Exception):
    """The training was asked to stop by `signal`, one of `STOPPING`, and a checkpoint was saved first."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(f"stopped by {signal.Signals(number).name}, everything is saved")
        self.signal = signal.Signals(number)


class Asked:
    """Whether a signal has come: its `number`, or None."""

    number: int | None = None


@contextmanager
def interruption() -> Iterator[Asked]:
    """Turn the signals of `STOPPING` into something to look at between steps.

    A second Ctrl-C stops at once. A second SIGTERM does not: some schedulers send several, and what must not wait gets
    a SIGKILL after them anyway, which loses nothing that a checkpoint holds. A SIGHUP that `nohup` has switched off
    stays so.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals reach the main thread alone
        return

    def handler(number, frame):
        asked.number = number
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    previous = {number: signal.getsignal(number) for number in STOPPING}
    if previous[signal.SIGHUP] is signal.SIG_IGN:
        del previous[signal.SIGHUP]
    for number in previous:
        signal.signal(number, handler)
    try:
        yield asked
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
