"""The loss scale, and gradients in half precision beside float32's."""

import numpy as np
import pytest
import tensorflow as tf

from loops.steps import Metrics, make_train_step
from tests.support.build import build
from tfcore import random
from tfcore.models.cnn import ConvNet
from tfcore.models.inn import Inn
from tfcore.optimizers.optimizer import Adam
from tfcore.precision import UNSCALED, LossScale, all_finite


def test_scale_doubles_after_clean_steps_and_halves_after_an_overflow():
    scale = LossScale(initial=8.0, growth_steps=3)
    seen = []
    for finite in (True, True, True, True, False, True, True, True):
        scale.update(tf.constant(finite))
        seen.append(float(scale.scale))
    assert seen == [8, 8, 16, 16, 8, 8, 8, 16]
    assert int(scale.skipped_steps) == 1 and int(scale.clean_steps) == 0


def test_scale_keeps_between_floor_and_ceiling():
    scale = LossScale(initial=2.0, growth_steps=1)
    for _ in range(5):
        scale.update(tf.constant(False))
    assert float(scale.scale) == LossScale.floor
    for _ in range(40):
        scale.update(tf.constant(True))
    assert float(scale.scale) == LossScale.ceiling


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite_finds_one_bad_number(bad):
    gradients = {"a": tf.ones((3, 5)), "b": tf.constant([1.0, bad])}
    assert not all_finite(gradients)
    assert all_finite({"a": tf.ones((3, 5))})


def _step(dtype, *, model=Inn, scale=UNSCALED, xla=False, pixels=None):
    model = build(model, key=random.make_key(3), dtype=dtype)
    optimizer, metrics = build(Adam, model.named_trainable_variables()), Metrics()
    step = make_train_step(model, optimizer, metrics, key=random.make_key(0), loss_scale=scale, xla=xla)
    rng = np.random.default_rng(0)
    images = rng.random((13, 32, 32, 3), np.float32) if pixels is None else pixels
    labels = rng.integers(0, 10, 13).astype(np.int32)
    step(tf.constant(images), tf.constant(labels), tf.constant(0, tf.int64))
    return model, optimizer, metrics


@pytest.mark.parametrize("xla", [False, True])
def test_an_overflow_skips_the_update(xla):
    before = {path: v.numpy() for path, v in build(Inn, key=random.make_key(3)).named_trainable_variables().items()}
    scale = LossScale(initial=2.0**24)
    pixels = np.full((13, 32, 32, 3), 6e4, np.float32)  # close to float16's largest number
    model, optimizer, _ = _step(tf.float16, scale=scale, xla=xla, pixels=pixels)
    assert int(scale.skipped_steps) == 1 and float(scale.scale) == 2.0**23
    assert int(optimizer.iterations) == 0
    for path, variable in model.named_trainable_variables().items():
        np.testing.assert_array_equal(variable, before[path])
        np.testing.assert_array_equal(optimizer.m[path], 0)


@pytest.mark.parametrize(("dtype", "digits"), [(tf.bfloat16, 2**-8), (tf.float16, 2**-11)])
def test_gradients_are_within_the_formats_error(dtype, digits):
    scale = LossScale(initial=2.0**10) if dtype == tf.float16 else UNSCALED
    _, expected, exact = _step(tf.float32, model=ConvNet)
    _, found, rounded = _step(dtype, model=ConvNet, scale=scale)
    assert rounded.result()["loss"] == pytest.approx(exact.result()["loss"], rel=8 * digits)
    # After one step from zero, Adam's m is a tenth of the gradient.
    exact, rounded = (np.concatenate([np.ravel(m) for m in adam.m.values()]) for adam in (expected, found))
    # Most of the difference is no sum of roundings: a value near zero, rounded, flips a ReLU or a max-pool's choice and
    # moves a whole gradient. It shrinks with the format's error all the same (measured: 33 and 23 times `digits`).
    assert np.linalg.norm(rounded - exact) < 64 * digits * np.linalg.norm(exact)
