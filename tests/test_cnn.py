"""System 5's network and its parts: sizes, places, refusals, edges. Its numbers beside Keras's: the catalog."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.build import build
from tfcore import random
from tfcore.layers.activation import Activation, PRelu
from tfcore.layers.conv import Conv2D
from tfcore.models.cnn import Cnn
from tfcore.ops import activations
from tfcore.ops.losses import l1_penalty, l2_penalty
from tfcore.ops.pooling import max_pool

KEY = random.make_key(0)
SMALL = {"image_size": 8, "filters": (5, 7), "units": 11, "classes": 3}
IMAGES = random.uniform(random.make_key(1), (13, 8, 8, 3), 0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "total", "trained"),
    [
        ({}, 356_810, 356_810),
        ({"dropout": 0.5}, 356_810, 356_810),
        ({"batch_norm": "after"}, 357_706, 357_258),
        ({"batch_norm": "before"}, 357_706, 357_258),
        ({"activation": "leaky_relu"}, 356_810, 356_810),
        ({"activation": "prelu", "prelu_axis": "channel"}, 357_162, 357_162),
        ({"activation": "prelu", "prelu_axis": "all"}, 414_282, 414_282),
    ],
)
def test_parameter_counts(options, total, trained):
    model = build(Cnn, key=KEY, **options)
    sizes = {path: int(np.prod(variable.shape)) for path, variable in model.named_variables().items()}
    assert sum(sizes.values()) == total
    assert sum(sizes[path] for path in model.named_trainable_variables()) == trained


@pytest.mark.parametrize("options", [{"batch_norm": "after"}, {"activation": "prelu", "prelu_axis": "all"}])
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_keeps_float32_weights(options, dtype):
    model = build(Cnn, key=KEY, dtype=dtype, **SMALL, **options)
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    assert model(IMAGES, training=True).dtype == dtype


def test_dropout_stands_in_front_of_the_first_dense_layer():
    model = build(Cnn, key=KEY, dropout=0.5, **SMALL)
    x = IMAGES
    for convolution in model.convolutions:
        x = max_pool(activations.relu(convolution(x)), kernel_size=2)
    flat = tf.reshape(x, [13, 2 * 2 * 7])

    def head(flat):
        return model.logits(activations.relu(model.hidden(flat)))

    np.testing.assert_allclose(model(IMAGES), head(flat), rtol=1e-5)
    kept = random.keep_mask(random.fold_in(KEY, model.dropout.site), flat.shape, 0.5)
    np.testing.assert_allclose(
        model(IMAGES, training=True, key=KEY), head(tf.where(kept, 2 * flat, 0)), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="needs a key"):
        model(IMAGES, training=True)


def test_batch_norm_moves_its_statistics_in_training_alone():
    for place in ("after", "before"):
        model = build(Cnn, key=KEY, batch_norm=place, **SMALL)
        model(IMAGES)
        assert not any(np.any(norm.moving_mean) for norm in model.norms)
        model(IMAGES, training=True)
        means = [norm.moving_mean.numpy() for norm in model.norms]
        assert all(np.all(mean != 0) for mean in means)
        # Behind a ReLU no mean is negative; in front of it about half of them are.
        assert any(np.any(mean < 0) for mean in means) == (place == "before")


def test_kernels_are_what_a_penalty_may_act_on():
    model = build(Cnn, key=KEY, batch_norm="after", activation="prelu", prelu_axis="all", **SMALL)
    paths = {id(variable): path for path, variable in model.named_variables().items()}
    found = {which: [paths[id(kernel)] for kernel in model.kernels(which)] for which in ("conv", "dense", "all")}
    assert found["conv"] == ["convolutions/0/kernel", "convolutions/1/kernel"]
    assert found["dense"] == ["hidden/kernel", "logits/kernel"]
    assert found["all"] == found["conv"] + found["dense"]
    with pytest.raises(ValueError, match="one of conv, dense, all, got 'bias'"):
        model.kernels("bias")


def test_the_initializer_reaches_every_kernel():
    models = [build(Cnn, key=KEY, initializer=name, **SMALL) for name in ("glorot_uniform", "he_uniform")]
    for glorot, he in zip(*(model.kernels("all") for model in models), strict=True):
        *_, inputs, outputs = glorot.shape
        window = 9 if len(glorot.shape) == 4 else 1
        # The same random numbers between other bounds.
        ratio = np.sqrt((window * inputs + window * outputs) / (window * inputs))
        np.testing.assert_allclose(he, ratio * glorot.numpy(), rtol=1e-5, atol=1e-7)


def test_penalties_of_half_precision_weights_count_in_float32():
    weights = [tf.fill([300], tf.constant(30.0, tf.float16)), tf.fill([7], tf.constant(-2.0, tf.float16))]
    assert float(l2_penalty(weights, 0.5)) == 0.5 * (300 * 900 + 7 * 4)  # beyond float16
    assert float(l1_penalty(weights, 0.5)) == 0.5 * (300 * 30 + 7 * 2)
    assert l1_penalty(weights, 0.5).dtype == tf.float32
    assert float(l2_penalty(weights, 0.0)) == 0


def test_sigmoid_at_its_edges():
    """The small values keep their digits: 1 + tanh, a shorter formula, rounds them to 0."""
    x = tf.constant([-1e4, -80.0, -20.0, 0.0, 20.0, 1e4])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = activations.sigmoid(x)
    expected = 1 / (1 + np.exp(-x.numpy().astype(np.float64).clip(-700)))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(tape.gradient(y, x), expected * (1 - expected), rtol=1e-5, atol=1e-7)


REFUSED = {
    "no filters": ({"filters": ()}, r"filters must be .*, got \(\)"),
    "image size": ({"image_size": 20}, r"multiple of 8 \(3 poolings\), got 20"),
    "image size zero": ({"image_size": 0}, "multiple of 8 .*, got 0"),
    "activation": ({"activation": "swish"}, "activation must be one of sigmoid, .*, prelu, got 'swish'"),
    "batch norm": ({"batch_norm": "behind"}, "batch_norm must be one of none, after, before, got 'behind'"),
    "initializer": ({"initializer": "zeros"}, "initializer must be one of glorot_uniform, he_uniform, got 'zeros'"),
    "prelu without an axis": ({"activation": "prelu"}, "prelu needs a prelu_axis: 'channel' learns"),
    "axis without prelu": ({"prelu_axis": "all"}, "prelu_axis says which slopes prelu learns, and relu learns none"),
    "axis unknown": ({"activation": "prelu", "prelu_axis": "row"}, "axis must be one of channel, all, got 'row'"),
    "slope": ({"activation": "leaky_relu", "slope": -0.1}, "slope must be at least 0 and below 1, .* got -0.1"),
    "dropout": ({"dropout": 1.0}, "below 1, got 1.0"),
    "formulation": ({"formulation": "fft"}, "formulation.*'fft'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_settings_are_refused_with_the_value(case):
    options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build(Cnn, key=KEY, **options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Activation("swish"), "name must be one of sigmoid, tanh, relu, leaky_relu, gelu, got 'swish'"),
        (lambda: Activation("leaky_relu", slope=1.0), "slope must be .*, got 1.0"),
        (lambda: PRelu(shape=()), r"shape must be .*, got \(\)"),
        (lambda: PRelu(shape=(8, 0)), r"shape must be .*, got \(8, 0\)"),
        (lambda: PRelu(shape=(8,), axis="row"), "axis must be one of channel, all, got 'row'"),
        (lambda: l1_penalty([tf.ones(3)], -0.1), "l1_penalty: factor must be at least 0, such as 0.01, got -0.1"),
        (lambda: l2_penalty([tf.ones(3)], float("nan")), "l2_penalty: factor must be .*, got nan"),
        (lambda: l2_penalty([], 0.1), "l2_penalty: no weights"),
    ],
)
def test_parts_refuse_impossible_settings(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_pooling_before_bias_and_relu_is_pooling_after_them():
    """Values to the last bit; gradients to the order of a sum. Biases that push whole windows below zero, too."""
    layer = Conv2D(channels=3, filters=7, kernel_size=3, key=KEY)
    layer.bias.assign(random.uniform(random.make_key(2), (7,), -1.0, 0.5))
    found = []
    for pooled in (
        lambda x: activations.relu(layer(x, pool=2)),
        lambda x: max_pool(activations.relu(layer(x)), kernel_size=2),
    ):
        with tf.GradientTape() as tape:
            tape.watch(IMAGES)
            y = pooled(IMAGES)
            loss = tf.reduce_sum(tf.square(y))
        found.append((y, *tape.gradient(loss, [IMAGES, layer.kernel, layer.bias])))
    (y, *gradients), (expected, *others) = found
    assert y.shape == (13, 4, 4, 7) and 0.05 < np.mean(expected == 0) < 0.9
    np.testing.assert_array_equal(y, expected)
    for gradient, other in zip(gradients, others, strict=True):
        assert np.linalg.norm(gradient - other) < 1e-5 * np.linalg.norm(other)
