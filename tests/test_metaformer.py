"""The MetaFormer: pinned sizes, shared networks, options, refusals. Values stand in the catalog."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from tests.support.build import build
from tfcore import random
from tfcore.context import Share, for_xla, share_of_batch
from tfcore.layers.feedforward import ChannelMlp
from tfcore.layers.involution import Involution
from tfcore.layers.normalization import BatchNorm
from tfcore.layers.stochastic_depth import StochasticDepth, linear_rates
from tfcore.models.metaformer import MetaFormer
from tfcore.module import Module
from tfcore.optimizers.optimizer import Adam

KEY = random.make_key(0)
SMALL = {"widths": (4, 6, 6), "blocks": (1, 2, 1), "mlp_widths": (5, 7, 7), "groups": (2, 3, 3), "classes": 3}
IMAGES = tf.constant(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.float32))


def _small(**settings) -> MetaFormer:
    return build(MetaFormer, **SMALL, **settings, key=KEY, image_size=8)


def _trained(model: Module) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.named_trainable_variables().values())


@pytest.mark.parametrize(
    ("settings", "trained", "total"),
    [
        ({}, 12_466, 13_016),
        # As many by a convolution in the involutions' places, with wider networks: what the audit compares with.
        ({"mixer": "depthwise", "mlp_widths": (35, 86, 86)}, 12_467, 13_017),
        ({"share_mlp": "stage"}, 18_946, 19_496),
        ({"share_mlp": "none"}, 39_442, 39_992),
    ],
)
def test_parameter_counts(settings, trained, total):
    model = build(MetaFormer, **settings, key=KEY)
    assert _trained(model) == trained
    assert sum(int(np.prod(variable.shape)) for variable in model.named_variables().values()) == total


@pytest.mark.parametrize(("share", "networks"), [("none", 4), ("stage", 3), ("width", 2)])
def test_a_shared_network_is_listed_once(share, networks):
    model = _small(share_mlp=share)
    variables = model.named_variables()
    assert len({id(variable) for variable in variables.values()}) == len(variables)
    assert len([path for path in variables if path.endswith("output/kernel")]) == networks
    assert all(path.startswith("mlps/") for path in variables if "hidden" in path)
    assert {path for path, module in model.named_modules().items() if isinstance(module, ChannelMlp)} == {
        f"mlps/{i}" for i in range(networks)
    }
    optimizer = build(Adam, model.named_trainable_variables())
    assert optimizer.m.keys() == model.named_trainable_variables().keys()
    assert list(variables) == list(_small(share_mlp=share).named_variables())


def test_a_variable_under_two_paths_is_listed_under_its_first():
    class Tied(Module):
        def __init__(self):
            super().__init__()
            self.first = [tf.Variable(1.0)]
            self.again = {"own": tf.Variable(2.0), "first": self.first[0]}

    assert list(Tied().named_variables()) == ["first/0", "again/own"]


def test_shared_networks_get_the_sum_of_their_gradients():
    """Both uses count: the gradient is that of a small step in the shared kernel, in float64."""
    model = build(MetaFormer, **SMALL, key=KEY, image_size=8, dtype=tf.float64)
    kernel = model.mlps[1].hidden.kernel

    def loss():
        return tf.reduce_sum(model(IMAGES)[:, 0])

    with tf.GradientTape() as tape:
        value = loss()
    gradient = tape.gradient(value, kernel)
    direction = tf.ones_like(kernel) * 1e-6
    kernel.assign_add(direction)
    above = loss()
    kernel.assign_sub(2 * direction)
    measured = (above - loss()) / 2
    assert float(measured) == pytest.approx(float(tf.reduce_sum(gradient * direction)), rel=1e-5)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("mixer", ["involution", "depthwise"])
def test_half_precision_keeps_float32_weights(dtype, mixer):
    sizes = SMALL if mixer == "involution" else {name: value for name, value in SMALL.items() if name != "groups"}
    model = build(MetaFormer, **sizes, mixer=mixer, stochastic_depth=0.5, key=KEY, image_size=8, dtype=dtype)
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    assert model(IMAGES, training=True, key=KEY).dtype == dtype


def test_the_mean_kernel_does_not_know_the_place():
    """With equal weights and a kernel from the mean, an image that is moved in a circle gives a moved inside."""
    layer = Involution(in_channels=6, groups=3, formulation="mean", key=KEY)
    x = tf.random.stateless_normal((2, 11, 7, 6), (0, 1))
    y, kernel = layer(x)
    assert np.ptp(kernel, axis=(1, 2)).max() == 0
    moved, _ = layer(tf.roll(x, 3, axis=1))
    np.testing.assert_allclose(moved[:, 4:-1], tf.roll(y, 3, axis=1)[:, 4:-1], atol=1e-6)
    place, _ = Involution(in_channels=6, groups=3, formulation="factored", key=KEY)(x)
    assert np.abs(place - y).max() > 1e-2


def test_stochastic_depth_keeps_or_drops_an_example_as_a_whole():
    layer, x = StochasticDepth(0.25, site=3), tf.ones((4_000, 2, 3))
    y = layer(x, training=True, key=KEY).numpy().reshape(4_000, 6)
    assert np.ptp(y, axis=1).max() == 0 and set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1, abs=0.04)  # five of its standard deviations, 0.0091 each
    np.testing.assert_array_equal(layer(x), x)
    assert np.any(y != StochasticDepth(0.25, site=4)(x, training=True, key=KEY).numpy().reshape(4_000, 6))
    with pytest.raises(ValueError, match="StochasticDepth: training needs a key"):
        layer(x, training=True)
    with pytest.raises(ValueError, match=r"at least 0 and below 1, got -0\.1"):
        StochasticDepth(-0.1, site=0)


def test_the_rates_of_the_blocks_rise_to_the_last():
    assert linear_rates(0.5, 4) == [0.125, 0.25, 0.375, 0.5]
    assert [block.drop.rate for block in _small(stochastic_depth=0.4).blocks] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_dropping_every_branch_leaves_stem_and_head():
    model = _small(stochastic_depth=0.5)
    for block in model.blocks:
        block.drop.rate = 1 - 2.0**-16
    y = model(IMAGES, training=True, key=KEY)
    for block in model.blocks:
        block.mlp.output.kernel.assign(tf.zeros_like(block.mlp.output.kernel))
    np.testing.assert_array_equal(y, model(IMAGES, training=True, key=KEY))


REFUSED = {
    "lengths": ({"blocks": (2, 3)}, r"MetaFormer: blocks must be 3 numbers of at least 1.*got \(2, 3\)"),
    "no stage": ({"widths": ()}, "widths must be a number for each stage"),
    "zero": ({"widths": (4, 0, 6)}, "widths must be 3 numbers of at least 1"),
    "mixer": ({"mixer": "attention"}, "mixer must be one of involution, depthwise, none, got 'attention'"),
    "sharing": ({"share_mlp": "all"}, "share_mlp must be one of none, stage, width, got 'all'"),
    "rate": ({"stochastic_depth": 1.0}, "stochastic_depth must be at least 0 and below 1, such as 0.1, got 1.0"),
    "groups unused": ({"mixer": "depthwise"}, "groups is for mixer involution, and nothing uses"),
    "kernel unused": (
        {"mixer": "none", "groups": (4, 8, 8), "kernel_sizes": (3, 3, 5)},
        "kernel_sizes is for mixer involution or depthwise",
    ),
    "groups": ({"groups": (2, 5, 5)}, r"divisor of the image's channels \(6\), got 5"),
    "even kernel": ({"kernel_sizes": (3, 4, 3)}, "must be odd.*got 4"),
    "formulation": ({"formulation": "fast"}, "formulation must be one of.*'fast'"),
    "image size": ({"image_size": 30}, "MetaFormer: image_size must be a positive multiple of 4, got 30"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_settings_are_refused_with_the_value(case):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build(MetaFormer, **{**SMALL, "image_size": 8, **settings}, key=KEY)


def test_batch_norm_by_tensorflow_where_it_can():
    """In a graph of one device; not where XLA compiles, nor where replicas share their statistics."""
    x, share = tf.ones((4, 2, 2, 3)), Share(0, 4, 8, sum=lambda part: 2 * part)

    def operations(formulation, context=contextlib.nullcontext):
        layer = BatchNorm(channels=3, formulation=formulation)
        with context():
            graph = tf.function(lambda x: layer(x, training=True)).get_concrete_function(x).graph
        return {operation.type for operation in graph.get_operations()}

    assert "FusedBatchNormV3" in operations("auto")
    for found in (
        operations("formulas"),
        operations("auto", for_xla),
        operations("auto", lambda: share_of_batch(share)),
    ):
        assert "FusedBatchNormV3" not in found and "Mean" in found
    with pytest.raises(ValueError, match="BatchNorm: formulation must be one of formulas, auto, got 'fast'"):
        BatchNorm(channels=3, formulation="fast")
