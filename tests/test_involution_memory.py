"""What the shifted involution is for: peak memory of forward and backward against the materialized patches."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

# Each formulation runs in a process of its own, whose resident memory is what counts.
PROGRAM = """
import sys
import tensorflow as tf
from tfcore.ops.involution import involve

formulation, mode, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])

def gradients(x, kernel):
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        y = involve(x, kernel, kernel_size=7, formulation=formulation)
        loss = tf.reduce_sum(y * y)
    return tape.gradient(loss, (x, kernel))

def resident(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

x, kernel = tf.ones((batch, 256, 256, 16)), tf.ones((batch, 256, 256, 49, 1))
if mode != "eager":
    gradients = tf.function(gradients, jit_compile=mode == "xla")
print("before", resident("VmRSS"), flush=True)
[float(tf.reduce_sum(gradient)) for gradient in gradients(x, kernel)]
print("peak", resident("VmHWM"), flush=True)
"""


def _start(formulation: str, mode: str, batch: int) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, formulation, mode, str(batch)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _line(process: subprocess.Popen, word: str) -> int:
    """The KiB that the program prints after `word`."""
    found, kibibytes = process.stdout.readline().split()
    assert found == word
    return int(kibibytes)


def _resident(process: subprocess.Popen) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize(("mode", "batch"), [("graph", 32), ("xla", 32), ("eager", 4)])
def test_shifted_needs_at_most_a_third_of_patches(mode, batch):
    shifted = _start("shifted", mode, batch)
    before = _line(shifted, "before")
    growth = _line(shifted, "peak") - before
    assert shifted.wait() == 0

    # The patches of 32 images may not fit this machine at all, so they are stopped once they have shown enough.
    patches = _start("patches", mode, batch)
    enough = _line(patches, "before") + 3 * growth
    try:
        reached = 0
        while patches.poll() is None and reached < enough:
            reached = max(reached, _resident(patches))
            time.sleep(0.02)
        if patches.returncode == 0:
            reached = _line(patches, "peak")
    finally:
        patches.kill()
        patches.wait()
    assert reached >= enough, f"shifted grew by {growth} KiB, patches reached {reached} KiB of {enough}"
