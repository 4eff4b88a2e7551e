"""Formulations that depend on who compiles: they differ, and nothing that they compute does."""

import numpy as np
import pytest
import tensorflow as tf

from tfcore.context import for_xla, is_xla
from tfcore.ops.pooling import max_pool


def _pool(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = max_pool(x, kernel_size=2)
    return y, tape.gradient(y, x)


def _pool_for_xla(x):
    with for_xla():
        assert is_xla()
        return _pool(x)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_pooling_is_by_tiles_for_xla_alone_and_breaks_ties_alike(jit_compile):
    x = tf.constant(np.random.default_rng(0).integers(-1, 2, (3, 10, 14, 5)).astype(np.float32))
    plain, tiled = (tf.function(function, jit_compile=jit_compile) for function in (_pool, _pool_for_xla))
    for expected, found in zip(_pool(x), tiled(x), strict=True):
        np.testing.assert_array_equal(expected, found)
    assert not is_xla()
    types = [{op.type for op in f.get_concrete_function(x).graph.get_operations()} for f in (plain, tiled)]
    assert "MaxPool" in types[0] and "MaxPool" not in types[1]
