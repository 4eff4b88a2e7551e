"""Shapes, dtypes and refusals of ops, layers and models; their values stand in the catalog."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from tests.support.build import build
from tfcore import random
from tfcore.context import for_xla
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.involution import Involution
from tfcore.layers.normalization import BatchNorm
from tfcore.models.cnn import ConvNet
from tfcore.models.inn import Inn
from tfcore.ops.convolution import convolve
from tfcore.ops.involution import involve, involve_factored
from tfcore.ops.losses import cross_entropy_from_logits, top_k_accuracy
from tfcore.ops.patches import extract_patches
from tfcore.ops.pooling import average_pool, max_pool

KEY = random.make_key(0)
IMAGE = tf.ones((2, 11, 7, 6))


@pytest.mark.parametrize(("model", "total", "trained"), [(ConvNet, 319_178, 319_178), (Inn, 13_080, 13_074)])
def test_parameter_counts_are_the_published_ones(model, total, trained):
    model = build(model, key=KEY)
    sizes = {path: int(np.prod(variable.shape)) for path, variable in model.named_variables().items()}
    assert sum(sizes.values()) == total
    assert sum(sizes[path] for path in model.named_trainable_variables()) == trained


def test_an_involution_of_the_published_network_has_26_parameters():
    layer = Involution(in_channels=3, key=KEY)
    assert sum(int(np.prod(variable.shape)) for variable in layer.variables) == 26


@pytest.mark.parametrize(("channels", "ratio", "stride", "side"), [(3, 2, 1, 256), (3, 2, 2, 128), (16, 2, 1, 256)])
def test_involution_has_the_published_shapes(channels, ratio, stride, side):
    layer = Involution(in_channels=3, channels=channels, kernel_size=5, stride=stride, reduction_ratio=ratio, key=KEY)
    output, kernel = tf.function(layer).get_concrete_function(tf.TensorSpec((32, 256, 256, 3))).structured_outputs
    assert output.shape == (32, side, side, 3)
    assert kernel.shape == (32, side, side, 25, 1, 1)


@pytest.mark.parametrize("formulation", ["shifted", "patches", "factored"])
def test_involution_of_odd_sizes_with_stride_and_an_open_batch_size(formulation):
    layer = Involution(in_channels=6, groups=3, stride=2, formulation=formulation, key=KEY)
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec((None, 11, 7, 6)))
    output, kernel = traced(IMAGE)
    assert output.shape == (2, 6, 4, 6) and kernel.shape == (2, 6, 4, 9, 1, 3)


@pytest.mark.parametrize("model", [ConvNet, Inn])
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_keeps_float32_weights(model, dtype):
    model = build(model, key=KEY, dtype=dtype)
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    assert model(tf.ones((2, 32, 32, 3)), training=True).dtype == dtype


def test_dropout_does_nothing_in_inference_and_needs_a_key_in_training():
    layer = Dropout(0.5, site=0)
    np.testing.assert_array_equal(layer(IMAGE), IMAGE)
    with pytest.raises(ValueError, match="needs a key"):
        layer(IMAGE, training=True)
    other = Dropout(0.5, site=1)(IMAGE, training=True, key=KEY)
    assert np.any(layer(IMAGE, training=True, key=KEY) != other)  # sites differ


def test_cross_entropy_of_extreme_logits_stays_finite():
    logits, labels = tf.constant([[1e4, -1e4, 0.0]]), tf.constant([1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy_from_logits(labels, logits)
    assert float(loss[0]) == pytest.approx(2e4)
    np.testing.assert_allclose(tape.gradient(loss, logits), [[1, -1, 0]])


REFUSED = {
    "kernel size even": (lambda: Involution(in_channels=6, kernel_size=4, key=KEY), "must be odd.*got 4"),
    "kernel size zero": (lambda: Involution(in_channels=6, kernel_size=0, key=KEY), "kernel_size.*got 0"),
    "kernel size no number": (lambda: Conv2D(channels=6, filters=3, kernel_size="3", key=KEY), "whole number"),
    "groups do not divide": (lambda: Involution(in_channels=6, groups=4, key=KEY), r"divisor.*\(6\), got 4"),
    "groups zero": (lambda: Involution(in_channels=6, groups=0, key=KEY), "got 0"),
    "stride zero": (lambda: Involution(in_channels=6, stride=0, key=KEY), "stride.*got 0"),
    "reduction above channels": (lambda: Involution(in_channels=3, reduction_ratio=4, key=KEY), "got 4"),
    "reduction zero": (lambda: Involution(in_channels=3, reduction_ratio=0, key=KEY), "got 0"),
    "group order": (lambda: Involution(in_channels=6, group_order="both", key=KEY), "group_order.*'both'"),
    "formulation": (lambda: Involution(in_channels=6, formulation="fast", key=KEY), "formulation.*'fast'"),
    "factored weights": (
        lambda: involve_factored(IMAGE, tf.ones((2, 11, 7, 2)), tf.ones((3, 9)), tf.ones(9), kernel_size=3),
        r"weight \(3, 9\) and bias \(9,\) must be",
    ),
    "factored groups": (
        lambda: involve_factored(IMAGE, tf.ones((2, 11, 7, 2)), tf.ones((2, 63)), tf.ones(63), kernel_size=3),
        "groups must be a divisor",
    ),
    "factored order": (
        lambda: involve_factored(
            IMAGE, tf.ones((2, 11, 7, 2)), tf.ones((2, 9)), tf.ones(9), kernel_size=3, group_order="any"
        ),
        "group_order.*'any'",
    ),
    "op formulation": (
        lambda: involve(IMAGE, tf.ones((2, 11, 7, 9, 1)), kernel_size=3, formulation="fast"),
        "formulation.*'fast'",
    ),
    "op group order": (
        lambda: involve(IMAGE, tf.ones((2, 11, 7, 9, 1)), kernel_size=3, group_order="both"),
        "group_order.*'both'",
    ),
    "kernel of another size": (
        lambda: involve(IMAGE, tf.ones((2, 11, 7, 25, 1)), kernel_size=3),
        r"\(B, 11, 7, 25, 1\), expected.*\(B, 11, 7, 9, 1\)",
    ),
    "pool stride": (lambda: max_pool(IMAGE, kernel_size=2, stride=0), "stride.*got 0"),
    "conv stride": (lambda: Conv2D(channels=6, filters=3, kernel_size=3, stride=0, key=KEY), "stride.*got 0"),
    "conv padding": (lambda: Conv2D(channels=6, filters=3, kernel_size=3, padding="same", key=KEY), "'same'"),
    "conv filters": (lambda: Conv2D(channels=6, filters=0, kernel_size=3, key=KEY), "filters.*got 0"),
    "conv formulation": (
        lambda: Conv2D(channels=6, filters=3, kernel_size=3, formulation="fft", key=KEY),
        "formulation.*'fft'",
    ),
    "conv channels": (lambda: convolve(IMAGE, tf.ones((3, 3, 5, 2))), "image of 6 channels"),
    "conv op formulation": (lambda: convolve(IMAGE, tf.ones((3, 3, 6, 2)), formulation="fft"), "'fft'"),
    "window larger than the image": (lambda: extract_patches(IMAGE, kernel_size=9, padding="VALID"), "does not fit"),
    "pool larger than the image": (lambda: max_pool(IMAGE, kernel_size=9), "does not fit"),
    "pool that does not tile": (lambda: max_pool(IMAGE, kernel_size=2, formulation="tiles"), "do not tile"),
    "pool formulation": (lambda: max_pool(IMAGE, kernel_size=2, formulation="fast"), "'fast'"),
    "dense inputs": (lambda: Dense(inputs=0, units=3, key=KEY), "inputs.*got 0"),
    "batch norm channels": (lambda: BatchNorm(channels=0), "channels.*got 0"),
    "dropout of one": (lambda: Dropout(1.0, site=0), "below 1, got 1.0"),
    "dropout negative": (lambda: Dropout(-0.1, site=0), "got -0.1"),
    "top zero": (lambda: top_k_accuracy(tf.constant([0]), tf.ones((1, 3)), k=0), "got 0"),
    "inn image size": (lambda: build(Inn, image_size=30, key=KEY), "multiple of 4.*got 30"),
    "convnet image size": (lambda: build(ConvNet, image_size=0, key=KEY), "multiple of 4.*got 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_settings_are_refused_with_the_value(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("kernel_size", "stride"), [(2, 2), (3, 2)])
def test_max_pooling_for_xla_has_no_scatter(kernel_size, stride):
    """TensorFlow's operation has one in its gradient; average pooling of windows that overlap is left to it."""

    def operations(pool, context):
        def run(x):
            with context():
                return pool(x, kernel_size=kernel_size, stride=stride, padding="SAME")

        graph = tf.function(run).get_concrete_function(tf.TensorSpec([3, 10, 14, 5])).graph
        return {operation.type for operation in graph.get_operations()}

    assert "MaxPool" in operations(max_pool, contextlib.nullcontext)
    assert "MaxPool" not in operations(max_pool, for_xla)
    assert ("AvgPool" in operations(average_pool, for_xla)) is (kernel_size > stride)
