"""Peak memory of a computation, measured in a process of its own: what tests of memory-saving formulations share."""

import subprocess
import sys
import time
from pathlib import Path

# The program defines `inputs`, `small` inputs of the same kind, and `gradients(*inputs)`. The small ones come first, so
# that libraries and compiler are loaded: what the process grows by between "before" and "peak" is the computation's.
FRAME = """
import sys
import tensorflow as tf

{program}

def resident(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

mode = sys.argv[1]
if mode != "eager":
    gradients = tf.function(gradients, jit_compile=mode == "xla")
gradients(*small)
print("before", resident("VmRSS"), flush=True)
[float(tf.reduce_sum(gradient)) for gradient in gradients(*inputs)]
print("peak", resident("VmHWM"), flush=True)
"""

HAS_PROC = Path("/proc/self/status").exists()


def _start(program: str, mode: str) -> subprocess.Popen:
    command = [sys.executable, "-c", FRAME.format(program=program), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _line(process: subprocess.Popen, word: str) -> int:
    """The KiB that the program prints after `word`."""
    found, kibibytes = process.stdout.readline().split()
    assert found == word
    return int(kibibytes)


def _resident(process: subprocess.Popen) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)


def assert_needs_at_most(share: float, program: str, of: str, mode: str) -> None:
    """Assert that `program` grows by at most `share` of what the program `of` grows by.

    The second one may not fit this machine at all, so it is stopped once it has shown enough.
    """
    process = _start(program, mode)
    before = _line(process, "before")
    growth = _line(process, "peak") - before
    assert process.wait() == 0

    other = _start(of, mode)
    enough = _line(other, "before") + growth / share
    reached = 0
    try:
        while other.poll() is None and reached < enough:
            reached = max(reached, _resident(other))
            time.sleep(0.02)
        if other.returncode == 0:
            reached = _line(other, "peak")
    finally:
        other.kill()
        other.wait()
    assert reached >= enough, f"grew by {growth} KiB; the other reached {reached} of {enough:.0f} KiB"
