"""Gradients of broadcast parameters in half precision: sums that a half-precision sum would get wrong."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from tfcore import random
from tfcore.context import for_xla
from tfcore.layers.activation import PRelu
from tfcore.layers.attention import Projection
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.layers.patches import PatchEncoder
from tfcore.ops import parameters
from tfcore.ops.parameters import add_parameter, broadcast_parameter, multiply_parameter
from tfcore.ops.pooling import global_average_pool

HALVES = {tf.float16: 2.0**-11, tf.bfloat16: 2.0**-8}


def _gradient(function, x, parameter, xla):
    @tf.function(jit_compile=xla)
    def run(x, parameter):
        with tf.GradientTape() as tape:
            tape.watch([x, parameter])
            y = function(x, parameter)
        # Of the sum over all of y.
        return y, *tape.gradient(y, [x, parameter], unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return run(x, parameter)


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("half", HALVES, ids=lambda dtype: dtype.name)
def test_sums_of_more_terms_than_the_format_can_count(half, xla):
    """Each gradient is a number of ones, or of twos: 331 · 13 · 7 = 30,121, where bfloat16 counts to 256."""
    x = tf.fill([331, 13, 7, 5], tf.constant(2, half))
    for shape, count in (((5,), 331 * 13 * 7), ((13, 1, 5), 331 * 7), ((), 331 * 13 * 7 * 5), ((1, 13, 7, 5), 331)):
        parameter = tf.fill(shape, 3.0)
        y, to_x, to_parameter = _gradient(add_parameter, x, parameter, xla)
        assert y.dtype == to_x.dtype == half and to_parameter.dtype == tf.float32 and to_parameter.shape == shape
        np.testing.assert_array_equal(tf.cast(y, tf.float32), 5)
        np.testing.assert_array_equal(tf.cast(to_x, tf.float32), 1)
        np.testing.assert_array_equal(to_parameter, count)
        y, to_x, to_parameter = _gradient(multiply_parameter, x, parameter, xla)
        assert y.dtype == to_x.dtype == half and to_parameter.dtype == tf.float32 and to_parameter.shape == shape
        np.testing.assert_array_equal(tf.cast(y, tf.float32), 6)
        np.testing.assert_array_equal(tf.cast(to_x, tf.float32), 3)
        np.testing.assert_array_equal(to_parameter, 2 * count)


@pytest.mark.parametrize("half", HALVES, ids=lambda dtype: dtype.name)
def test_a_broadcast_counts_further_than_the_format(half):
    y, _, found = _gradient(
        lambda _, parameter: broadcast_parameter(parameter, [4096, 3, 5]),
        tf.zeros([1]),
        tf.ones([1, 3, 5], half),
        False,
    )
    assert y.shape == (4096, 3, 5) and y.dtype == found.dtype == half
    np.testing.assert_array_equal(tf.cast(found, tf.float32), 4096)


def test_a_parameter_in_half_precision_gets_a_gradient_that_is_rounded_once():
    _, _, found = _gradient(add_parameter, tf.ones([2049, 5], tf.bfloat16), tf.ones([5], tf.bfloat16), False)
    assert found.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(found, tf.float32), 2048)


def test_in_float32_nothing_is_added_to_the_graph():
    def types(function):
        spec = [tf.TensorSpec([3, 5]), tf.TensorSpec([5])]
        return [op.type for op in tf.function(function).get_concrete_function(*spec).graph.get_operations()]

    assert types(add_parameter) == types(lambda x, p: x + p)
    assert types(multiply_parameter) == types(lambda x, p: x * p)


def _layers(dtype):
    """(layer, shape of its input or inputs, name of the parameter)."""
    key = random.make_key(0)
    encoder = PatchEncoder(side=3, patch_width=7, width=5, key=key, dtype=dtype)
    return {
        "dense": (Dense(inputs=7, units=5, key=key, dtype=dtype), [(1031, 13, 7)], "bias"),
        "conv": (Conv2D(channels=2, filters=5, kernel_size=3, key=key, dtype=dtype), [(131, 11, 7, 2)], "bias"),
        "projection": (
            Projection(width=7, heads=2, head_width=5, merge=False, key=key, dtype=dtype),
            [(1031, 13, 7)],
            "bias",
        ),
        "merge": (
            Projection(width=7, heads=2, head_width=5, merge=True, key=key, dtype=dtype),
            [(1031, 2, 13, 5)],
            "bias",
        ),
        "positions": (encoder, [(1031, 9, 7)], "position/embeddings"),
        "prelu": (PRelu(shape=(11, 7, 5), dtype=dtype), [(131, 11, 7, 5)], "alpha"),
    }


@pytest.mark.parametrize("name", _layers(tf.float32))
@pytest.mark.parametrize("half", HALVES, ids=lambda dtype: dtype.name)
def test_layers_sum_their_parameters_gradients_in_float32(name, half):
    """With upstream gradients of one sign, as behind a loss that is too high everywhere: the worst case of a long sum.

    The terms are exact: nothing but float32's own rounding is left. Of positions, whose table is cast before it is
    added, the sum is rounded once, to the half precision.
    """
    found = {}
    for dtype in (tf.float64, half):
        layer, shapes, path = _layers(dtype)[name]
        rng = np.random.default_rng(0)
        inputs = [tf.cast(tf.constant(rng.standard_normal(shape)), half) for shape in shapes]  # the same for both
        variable = layer.named_variables()[path]
        with tf.GradientTape() as tape:
            y = layer(*(tf.cast(x, dtype) for x in inputs))
            upstream = tf.cast(tf.constant(rng.uniform(0.5, 1.0, y.shape)), half)
        found[dtype] = tape.gradient(y, variable, output_gradients=tf.cast(upstream, dtype))
        assert found[dtype].dtype == variable.dtype
    exact = found[tf.float64].numpy()
    error = np.linalg.norm(found[half].numpy() - exact) / np.linalg.norm(exact)
    assert error < (HALVES[half] if name == "positions" else 1e-5)


@pytest.mark.parametrize("half", HALVES, ids=lambda dtype: dtype.name)
def test_the_mean_over_positions_is_of_more_of_them_than_the_format_can_count(half):
    np.testing.assert_array_equal(tf.cast(global_average_pool(tf.ones([2, 67_000, 3], half)), tf.float32), 1)


@pytest.mark.parametrize(("for_compiler", "gpu"), [(False, False), (True, False), (True, True)])
def test_a_sum_of_many_blocks_is_as_exact_as_one(monkeypatch, for_compiler, gpu):
    """More rows than one block holds, the last block smaller; terms of one sign, where a half precision would stop."""
    monkeypatch.setattr(parameters, "is_gpu", lambda: gpu)
    rng = np.random.default_rng(0)
    x, y = (tf.cast(rng.uniform(0.5, 1.0, (20_011, 13)), tf.bfloat16) for _ in range(2))
    exact_x, exact_y = (np.asarray(tf.cast(factor, tf.float64)) for factor in (x, y))

    @tf.function(jit_compile=for_compiler)
    def gradients(x, y, parameter):
        with for_xla() if for_compiler else contextlib.nullcontext():
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(parameter)
                results = add_parameter(y, parameter), multiply_parameter(y, parameter)
            return [tape.gradient(result, parameter, output_gradients=x) for result in results]

    found = gradients(x, y, tf.ones([13]))
    if for_compiler:  # which makes one kernel of a whole sum on a GPU
        hlo = gradients.experimental_get_compiler_ir(x, y, tf.ones([13]))(stage="hlo")
        assert (hlo.count(" reduce(") == 2) is gpu
    for total, exact in zip(found, (exact_x.sum(0), (exact_x * exact_y).sum(0)), strict=True):
        assert total.dtype == tf.float32
        np.testing.assert_allclose(total, exact, rtol=3e-6)


def test_no_operation_casts_a_whole_gradient_in_half_precision():
    @tf.function
    def gradient(x, bias):
        with tf.GradientTape() as tape:
            tape.watch(bias)
            y = add_parameter(x, bias)
        return tape.gradient(y, bias)

    graph = gradient.get_concrete_function(tf.TensorSpec([20_000, 16], tf.bfloat16), tf.TensorSpec([16])).graph
    casts = [
        op.inputs[0].shape[0]
        for op in graph.get_operations()
        if op.type == "Cast" and op.outputs[0].dtype == tf.float32
    ]
    assert len(casts) > 1 and max(casts) < 20_000 and sum(casts) == 20_000
