"""Peak memory of a computation, measured in a process of its own: what tests of memory-saving formulations share.

As a program this is a process that has imported TensorFlow but run nothing of it, and forks one for each line of its
input (see kill_zygote.py): {"program", "mode"}. The child prints its number, what it occupied before the computation
and at its peak; the parent, how it ended and how many threads the parent has.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HAS_PROC = Path("/proc/self/status").exists()


def measure(program: str, mode: str) -> None:
    """Run in the child: a program defines `inputs`, `small` inputs of the same kind, and `gradients(*inputs)`.

    The small ones come first, so that libraries and compiler are loaded: what the process grows by between "before" and
    "peak" is the computation's.
    """
    import tensorflow as tf

    say("pid", os.getpid())
    names = {"tf": tf}
    exec(program, names)
    gradients = names["gradients"]
    if mode != "eager":
        gradients = tf.function(gradients, jit_compile=mode == "xla")
    gradients(*names["small"])
    say("before", resident(os.getpid()))
    [float(tf.reduce_sum(gradient)) for gradient in gradients(*names["inputs"])]
    say("peak", resident(os.getpid(), "VmHWM"))


def say(word: str, number: int) -> None:
    """Print a line at once."""
    print(word, number, flush=True)


def resident(process: int, field: str = "VmRSS") -> int:
    """The KiB that a process occupies; 0 when it has ended."""
    status = Path(f"/proc/{process}/status").read_text()
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(field)), 0)


def main() -> None:
    import tensorflow  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                measure(**json.loads(line))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        say("status", status)
        say("threads", len(os.listdir("/proc/self/task")))


class Measurer:
    """The forking process, and the lines that it prints."""

    def __init__(self, process: subprocess.Popen):
        self.process = process

    def start(self, program: str, mode: str) -> int:
        """Start a computation; return its process's number."""
        self.process.stdin.write(json.dumps({"program": program, "mode": mode}).encode() + b"\n")
        return self.line("pid")

    def line(self, word: str) -> int:
        """The number that is printed after `word`."""
        found, number = self.process.stdout.readline().split()
        assert found == word.encode(), (found, number)
        return int(number)

    def has_line(self, seconds: float) -> bool:
        """Wait for a line, but not for long."""
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def end(self, status: int) -> None:
        """Take the lines of a computation's end."""
        assert self.line("status") == status
        assert self.line("threads") <= 2, "the parent has run an operation: its forks are not to be trusted"

    def needs_at_most(self, share: float, program: str, of: str, mode: str) -> None:
        """Assert that `program` grows by at most `share` of what the program `of` grows by.

        The second one may not fit this machine at all, so it is stopped once it has shown enough.
        """
        self.start(program, mode)
        before = self.line("before")
        growth = self.line("peak") - before
        self.end(0)

        other = self.start(of, mode)
        enough = self.line("before") + growth / share
        reached = 0
        while reached < enough and not self.has_line(0.02):
            reached = max(reached, resident(other))
        if self.has_line(0):
            reached = self.line("peak")
            self.end(0)
        else:
            os.kill(other, signal.SIGKILL)
            self.end(signal.SIGKILL)
        assert reached >= enough, f"grew by {growth} KiB; the other reached {reached} of {enough:.0f} KiB"


@contextlib.contextmanager
def measurer() -> Iterator[Callable[..., None]]:
    """`Measurer.needs_at_most` of a process that ends with this context."""
    command = [sys.executable, "-m", "tests.support.memory"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # Without buffers: what has been read of a line would be hidden from `select`.
    with subprocess.Popen(command, bufsize=0, cwd=Path(__file__).parents[2], **pipes) as process:
        yield Measurer(process).needs_at_most
        process.stdin.close()


if __name__ == "__main__":
    main()
