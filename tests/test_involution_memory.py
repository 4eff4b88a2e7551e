"""What the shifted involution is for: peak memory of forward and backward against the materialized patches."""

import pytest

from tests.support.memory import HAS_PROC, assert_needs_at_most

PROGRAM = """
from tfcore.ops.involution import involve

inputs = tf.ones(({batch}, 256, 256, 16)), tf.ones(({batch}, 256, 256, 49, 1))
small = tf.ones((1, 8, 8, 16)), tf.ones((1, 8, 8, 49, 1))

def gradients(x, kernel):
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        y = involve(x, kernel, kernel_size=7, formulation="{formulation}")
        loss = tf.reduce_sum(y * y)
    return tape.gradient(loss, (x, kernel))
"""


@pytest.mark.skipif(not HAS_PROC, reason="resident memory is read from Linux's /proc")
# In graph mode the patches alone would take 6.6 GB; a share is the same for a smaller batch.
@pytest.mark.parametrize(("mode", "batch"), [("graph", 32), ("xla", 4), ("eager", 4)])
def test_shifted_needs_at_most_a_third_of_patches(mode, batch):
    shifted, patches = (PROGRAM.format(batch=batch, formulation=f) for f in ("shifted", "patches"))
    assert_needs_at_most(1 / 3, shifted, of=patches, mode=mode)
