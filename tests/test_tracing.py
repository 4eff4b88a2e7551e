"""What cannot be compiled, named before the attempt; how often a function was traced and why."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tests.support.planted import Planted, jit, line_of
from tfcore.inspect.graph.tracing import trace_report, uncompilable
from tfcore.inspect.profile.compiler import inspect_step
from tfcore.module import Module


def test_what_xla_cannot_compile_is_named_before_the_attempt():
    class Refused(Module):
        def __init__(self):
            super().__init__()
            self.inner = Planted()

        def __call__(self, x):
            return tf.image.resize(self.inner(x)[None, :, :, None], [9, 9], "bicubic")  # refused

    step = jit(Refused())
    line = line_of(test_what_xla_cannot_compile_is_named_before_the_attempt, "# refused")
    (found,) = uncompilable(step, tf.ones([5, 7]))
    assert (found.op_type, found.layer, found.source, found.phase) == ("ResizeBicubic", "refused", line, "forward")
    assert "tfcore.ops.resampling.resize" in found.rewrite
    with pytest.raises(ValueError, match=rf"cannot compile ResizeBicubic \({re.escape(line)}, refused, forward\)"):
        inspect_step(step, tf.ones([5, 7]))


@pytest.mark.parametrize(
    ("function", "op_type"),
    [
        (lambda x: tf.random.experimental.stateless_shuffle(x, [1, 2]), "StatelessShuffle"),
        (
            lambda x: tf.raw_ops.ResizeNearestNeighborGrad(grads=x[None, :, :, None], size=[3, 3]),
            "ResizeNearestNeighborGrad",
        ),
        (lambda x: tf.numpy_function(np.sin, [x], tf.float32), "PyFunc"),
        (lambda x: tf.image.crop_and_resize(x[None, :, :, None], [[0.0, 0.0, 1.0, 1.0]], [0], [3, 3]), "CropAndResize"),
    ],
)
def test_known_refusals_are_foreseen_with_a_rewrite(function, op_type):
    found = uncompilable(tf.function(function, autograph=False), tf.ones([5, 7]))
    assert [item.op_type for item in found] == [op_type]
    assert found[0].rewrite


def test_what_compiles_is_not_refused():
    x = tf.ones([5, 7])

    def many(x):
        tf.debugging.assert_positive(x)
        order = tf.argsort(tf.reshape(x, [-1]))
        image = tf.image.resize(x[None, :, :, None], [3, 3])
        bits = tf.random.stateless_uniform([5], [1, 2], None, None, tf.uint32)
        return tf.while_loop(lambda i: i < 3, lambda i: i + 1, (0,)), order, image, bits

    step = tf.function(many, jit_compile=True, autograph=False)
    assert uncompilable(step, x) == ()
    step(x)


def test_traces_and_what_changed():
    function = tf.function(lambda x, rate: x * rate, autograph=False)
    function(tf.ones([5, 7]), 0.5)
    function(tf.ones([5, 7]), 0.5)
    function(tf.ones([3, 7]), 0.5)
    function(tf.ones([3, 7]), 0.25)
    report = trace_report(function)
    assert report.count == 3
    assert report.traces[0].signature == {"argument 1": "float32[5,7]", "argument 2": "0.5"}
    assert [trace.changes for trace in report.traces] == [
        (),
        ("argument 1: float32[5,7] -> float32[3,7]",),
        ("argument 2: 0.5 -> 0.25",),
    ]
