"""What the shifted involution is for: peak memory of forward and backward against the materialized patches."""

import pytest

from tests.support.memory import HAS_PROC, measurer

PROGRAM = """
from tfcore.ops.involution import involve

inputs = tf.ones((4, {side}, {side}, 16)), tf.ones((4, {side}, {side}, 49, 1))
small = tf.ones((1, 8, 8, 16)), tf.ones((1, 8, 8, 49, 1))

def gradients(x, kernel):
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        y = involve(x, kernel, kernel_size=7, formulation="{formulation}")
        loss = tf.reduce_sum(y * y)
    return tape.gradient(loss, (x, kernel))
"""


@pytest.fixture(scope="module")
def needs_at_most():
    with measurer() as check:
        yield check


@pytest.mark.skipif(not HAS_PROC, reason="resident memory is read from Linux's /proc")
# One mode at a size that README names; a share is the same at a smaller one.
@pytest.mark.parametrize(("mode", "side"), [("graph", 256), ("xla", 128), ("eager", 128)])
def test_shifted_needs_at_most_a_third_of_patches(needs_at_most, mode, side):
    shifted, patches = (PROGRAM.format(side=side, formulation=f) for f in ("shifted", "patches"))
    needs_at_most(1 / 3, shifted, of=patches, mode=mode)
