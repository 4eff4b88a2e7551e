"""The residual network: pinned sizes, shapes, refusals. Values stand in the catalog."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.build import build
from tfcore import random
from tfcore.models.resnet import ResNet

KEY = random.make_key(0)
IMAGES = tf.constant(np.random.default_rng(0).integers(0, 256, (4, 9, 9, 3)).astype(np.float32))
SMALL = {"widths": (4, 6), "blocks": (1, 2), "classes": 3}


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({}, 272_282),
        ({"widths": (18, 36, 72)}, 344_260),
        ({"blocks": (3, 3, 4)}, 346_266),  # the most that system 5's network, 356,810, leaves room for
    ],
)
def test_parameter_counts(settings, trained):
    model = build(ResNet, **settings, key=KEY)
    assert sum(int(np.prod(variable.shape)) for variable in model.named_trainable_variables().values()) == trained
    assert not any(path.endswith("bias") for path in model.named_variables() if path != "logits/bias")


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_keeps_float32_weights(dtype):
    model = build(ResNet, **SMALL, stochastic_depth=0.5, key=KEY, dtype=dtype)
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    logits = model(IMAGES, training=True, key=KEY)
    assert logits.dtype == dtype and logits.shape == (4, 3)


def test_a_stage_halves_the_image():
    model, shapes = build(ResNet, **SMALL, key=KEY), []
    x = model.stem(IMAGES)
    for block in model.blocks:
        x = block(x)
        shapes.append(tuple(x.shape))
    assert shapes == [(4, 9, 9, 4), (4, 5, 5, 6), (4, 5, 5, 6)]


def test_depth_is_stochastic_in_training_alone():
    model = build(ResNet, **SMALL, stochastic_depth=0.6, key=KEY)
    assert [block.drop.rate for block in model.blocks] == pytest.approx([0.2, 0.4, 0.6])
    with pytest.raises(ValueError, match="needs a key"):
        model(IMAGES, training=True)
    once, again, other = (model(IMAGES, training=True, key=random.make_key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.any(once != other)


REFUSED = {
    "lengths": (
        {"blocks": (2,)},
        r"ResNet: blocks must be 2 numbers of at least 1.*got \(2,\)",
    ),
    "no stage": ({"widths": ()}, "widths must be a number for each stage"),
    "zero": ({"blocks": (1, 0)}, r"blocks must be 2 numbers of at least 1.*got \(1, 0\)"),
    "rate": ({"stochastic_depth": -0.1}, "stochastic_depth must be at least 0 and below 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_settings_are_refused_with_the_value(case):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build(ResNet, **{**SMALL, **settings}, key=KEY)
