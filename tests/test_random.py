"""Keys, bits and initializers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.modes import MODES
from tfcore import initializers, random
from tfcore.context import for_xla

SHAPES = [(5, 3), (11, 7, 5), (13,)]


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_bits_and_masks_are_equal_in_every_mode(mode):
    def draw(step):
        key = random.fold_in(random.fold_in(random.make_key(7), step), 3)
        return key, random.bits(key, (5, 3)), random.keep_mask(key, (11, 7, 5), 0.3)

    step = tf.constant(123456789012, tf.int64)  # a step beyond 32 bits still gives a key
    for expected, found in zip(draw(step), MODES[mode](draw)(step), strict=True):
        np.testing.assert_array_equal(expected, found)


def _counts(graph: tf.Graph) -> list[int]:
    """How many numbers each operation of a graph draws, but for those by which TensorFlow scrambles a key: 4."""
    drawn = [op for op in graph.get_operations() if op.type == "StatelessRandomUniformFullIntV2"]
    with tf.compat.v1.Session(graph=graph) as session:
        counts = [int(np.prod(session.run(op.inputs[0]))) for op in drawn]
    return [count for count in counts if count > 4]


@pytest.mark.parametrize("mode", MODES)
def test_draws_for_xla_are_the_same_bits_of_different_sizes(mode):
    def draw(number):
        key = random.fold_in(random.make_key(7), number)
        return [random.keep_mask(random.fold_in(key, site), shape, 0.3) for site in range(3) for shape in SHAPES]

    def draw_for_xla(number):
        with for_xla():
            return draw(number)

    number = tf.constant(5, tf.int64)
    for expected, found in zip(draw(number), MODES[mode](draw_for_xla)(number), strict=True):
        np.testing.assert_array_equal(expected, found)
    graph = tf.function(draw_for_xla).get_concrete_function(number).graph
    counts = _counts(graph)
    assert len(counts) == 3 * len(SHAPES) == len(set(counts))


@pytest.mark.parametrize("count", [385, 386])
def test_each_half_of_the_bits_decides_one_place(count):
    key = random.make_key(3)
    halves = random.bits(key, [193]).numpy().astype("<u4").view("<u2")[:count]
    np.testing.assert_array_equal(random.keep_mask(key, [count], 0.3), halves >= round(0.3 * 65536))
    np.testing.assert_array_equal(random.keep_mask(key, [count], 0.999999), halves == 65535)


def test_a_mask_is_drawn_at_its_size():
    key = random.make_key(3)
    graph = tf.function(lambda: random.keep_mask(key, [7, 11, 5], 0.3)).get_concrete_function().graph
    assert _counts(graph) == [193]  # for 385 places


def test_keys_differ_by_seed_step_and_site():
    keys = {
        tuple(random.fold_in(random.fold_in(random.make_key(seed), step), site).numpy())
        for seed in range(5)
        for step in range(7)
        for site in range(3)
    }
    assert len(keys) == 5 * 7 * 3
    bits = {tuple(random.bits(tf.constant(key), (2,)).numpy()) for key in keys}
    assert len(bits) == len(keys)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.99])
def test_mask_drops_at_its_rate(rate):
    n = 100_003
    kept = float(tf.reduce_mean(tf.cast(random.keep_mask(random.make_key(1), (n,), rate), tf.float64)))
    assert abs(kept - (1 - rate)) <= 5 * np.sqrt(rate * (1 - rate) / n)  # five standard deviations


def test_uniform_fills_its_range_in_every_dtype_alike():
    values = random.uniform(random.make_key(2), (100_003,), -3.0, 5.0)
    assert -3 <= values.numpy().min() < -2.99 and 4.99 < values.numpy().max() < 5
    assert abs(values.numpy().mean() - 1) < 0.05
    doubles = random.uniform(random.make_key(2), (100_003,), -3.0, 5.0, tf.float64)
    np.testing.assert_array_equal(values.numpy().astype(np.float64), doubles)


@pytest.mark.parametrize("shape", [(7, 5), (3, 3, 5, 11), (1, 1, 3, 9), (64, 4, 16)])
@pytest.mark.parametrize(
    ("initializer", "keras_initializer", "scale"),
    [
        (initializers.glorot_uniform, keras.initializers.GlorotUniform, lambda fan_in, fan_out: fan_in + fan_out),
        (initializers.he_uniform, keras.initializers.HeUniform, lambda fan_in, fan_out: fan_in),
    ],
)
def test_uniform_initializers_have_keras_distribution(shape, initializer, keras_initializer, scale):
    limit = np.sqrt(6 / scale(*keras.src.initializers.random_initializers.compute_fans(shape)))
    large = initializer(shape, random.make_key(0))
    assert large.shape == shape
    draws = np.concatenate([initializer(shape, random.make_key(seed)).numpy().ravel() for seed in range(50)])
    assert 0.95 * limit < np.abs(draws).max() <= limit
    assert abs(draws.std() / (limit / np.sqrt(3)) - 1) < 0.05
    twins = np.concatenate([keras_initializer(seed=seed)(shape).numpy().ravel() for seed in range(50)])
    assert 0.95 * limit < np.abs(twins).max() <= limit * (1 + 1e-6)
