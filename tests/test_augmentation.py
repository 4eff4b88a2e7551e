"""Resampling and augmentation beside Keras's layers, per image, in every mode and dtype; bad input.

Their definitions, pixel by pixel, stand in the catalog. Keras is compared at the scale that the model sees: images
normalized to mean 0 and variance 1, so values of order 1 that differ by several between neighbours.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.catalog.augmentation import fused_matrix, warped
from tests.support.modes import MODES
from tfcore import random
from tfcore.layers.augmentation import Normalization, RandomAugmentation, Resizing, channel_statistics
from tfcore.ops import resampling
from tfcore.ops.resampling import FORMULATIONS, Warp

KEY = random.make_key(0)
TOLERANCE = 1e-4  # of a Keras layer's output, absolute, on every pixel
SIZES = ((72, 72), (64, 64), (37, 53))


def _images(count=7, size=(32, 32), seed=0):
    return tf.constant(np.random.default_rng(seed).standard_normal((count, *size, 3)), tf.float32)


def _assert_close(found, expected, tolerance=TOLERANCE):
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(72, 72), (64, 64), (37, 53), (20, 90), (32, 32), (9, 5)])
def test_resizing_equals_keras(size, mode):
    x = _images()
    _assert_close(MODES[mode](Resizing(size))(x), keras.layers.Resizing(*size)(x))


@pytest.mark.parametrize("mode", MODES)
def test_flip_equals_keras(mode):
    x, flips = _images(), np.array([True, False, False, True, True, False, True])
    theirs = keras.layers.RandomFlip("horizontal").transform_images(x, {"flips": flips[:, None, None, None]})
    np.testing.assert_array_equal(MODES[mode](resampling.flip)(x, flips), theirs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [0.02, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_rotation_equals_keras_at_the_angles_that_keras_draws(size, factor, mode):
    x = _images(size=size)
    twin = keras.layers.RandomRotation(factor, fill_mode="reflect", interpolation="bilinear", seed=1)
    drawn = twin.get_random_transformation(x, training=True)  # "angle" in degrees
    angles = tf.cast(drawn["angle"] * np.float32(np.pi / 180), tf.float32)
    _assert_close(MODES[mode](resampling.rotate)(x, angles), twin.transform_images(x, drawn))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factors", [(0.2, 0.2), (0.05, 0.9), (1.0, 0.4)])
@pytest.mark.parametrize("size", SIZES)
def test_zoom_equals_keras_at_the_factors_that_keras_draws(size, factors, mode):
    x = _images(size=size)
    twin = keras.layers.RandomZoom(*factors, fill_mode="reflect", interpolation="bilinear", seed=1)
    drawn = twin.get_random_transformation(x, training=True)
    height_factors, width_factors = drawn["height_zoom"][:, 0], drawn["width_zoom"][:, 0]
    assert np.any(np.abs(height_factors - width_factors) > 0.1 * max(factors))  # the axes cannot be swapped unseen
    _assert_close(MODES[mode](resampling.zoom)(x, height_factors, width_factors), twin.transform_images(x, drawn))


@pytest.mark.parametrize("mode", MODES)
def test_the_chain_equals_a_stack_of_keras_layers(mode):
    x = _images(11)
    layer = RandomAugmentation(72, site=3)
    drawn = layer.draw(KEY, 11)
    y = keras.layers.Resizing(72, 72)(x)
    y = keras.layers.RandomFlip("horizontal").transform_images(y, {"flips": drawn.flips[:, None, None, None]})
    twin = keras.layers.RandomRotation(0.02)
    zeros, ones = tf.zeros(11), tf.ones(11)
    rotation = twin._compute_affine_matrix(
        *(0.5, 0.5, drawn.angles * np.float32(180 / np.pi), zeros, zeros, ones, zeros, zeros), height=72, width=72
    )
    y = twin.transform_images(y, {"rotation_matrix": rotation})
    factors = {"height_zoom": drawn.height_factors[:, None], "width_zoom": drawn.width_factors[:, None]}
    y = keras.layers.RandomZoom(0.2, 0.2).transform_images(y, factors)
    ours = MODES[mode](lambda x: layer(x, training=True, key=KEY))(x)
    _assert_close(ours, y)
    assert np.abs(ours - layer(x)).max() > 1  # not a comparison of images that nothing happened to


@pytest.mark.parametrize("images", [np.uint8, np.float32])
def test_normalization_fitted_as_keras_adapts(images):
    data = np.random.default_rng(0).integers(0, 256, (2100, 11, 7, 3)) * [1.0, 0.5, 0.25] + [0, 7, 90]
    data = data.astype(images)
    layer, twin = Normalization(), keras.layers.Normalization()
    layer.fit(data)
    twin.adapt(data.astype(np.float64))
    _assert_close(layer(data), twin(data))
    mean, variance = channel_statistics(data, chunk=64)
    np.testing.assert_allclose(mean, data.mean((0, 1, 2), np.float64), rtol=1e-13)
    np.testing.assert_allclose(variance, data.astype(np.float64).var((0, 1, 2)), rtol=1e-12)
    assert list(layer.named_variables()) == ["mean", "variance"] and not layer.named_trainable_variables()
    normalized = np.asarray(layer(data), np.float64)
    np.testing.assert_allclose(normalized.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.std((0, 1, 2)), 1, atol=1e-5)


def test_statistics_keep_their_digits_far_from_zero():
    data = 1e7 + np.random.default_rng(0).standard_normal((300, 5, 3, 2))
    np.testing.assert_allclose(channel_statistics(data, chunk=7)[1], data.var((0, 1, 2)), rtol=1e-7)


ONE_INTERPOLATION = {
    "nothing": (Warp(), 72),
    "flip": (Warp(flips=[True, False, True]), 72),
    "identities": (Warp([False] * 3, [0.0] * 3, [1.0] * 3, [1.0] * 3), 72),
    "rotate": (Warp(flips=[True, False, True], angles=[0.1, -0.2, 2.0]), 32),
    "zoom": (Warp(flips=[True, False, True], height_factors=[0.8, 1.1, 2.5], width_factors=[1.2, 0.9, 0.3]), 32),
}


@pytest.mark.parametrize("name", ONE_INTERPOLATION)
def test_formulations_agree_where_one_transform_alone_interpolates(name):
    parameters, size = ONE_INTERPOLATION[name]
    x = _images(3)
    chain, fused = (resampling.warp(x, parameters, size=size, formulation=each) for each in FORMULATIONS)
    _assert_close(fused, chain, 1e-5)
    if name in ("nothing", "identities"):
        _assert_close(chain, resampling.resize(x, size=size), 1e-6)


def test_formulations_agree_on_a_plane_away_from_the_borders():
    # Bilinear interpolation reproduces a·row + b·column + c exactly, however often it is done; reflections bend it.
    row, column = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
    x = tf.constant(np.stack([row, column, 0.3 * row - 0.7 * column + 0.1], -1)[None].repeat(5, 0), tf.float32)
    drawn = RandomAugmentation(72, site=0).draw(KEY, 5)
    chain, fused = (resampling.warp(x, drawn, size=72, formulation=each) for each in FORMULATIONS)
    _assert_close(fused[:, 14:58, 14:58], chain[:, 14:58, 14:58], 1e-5)
    assert np.abs(fused - chain).max() > 1e-3  # at the borders they do differ


def test_fused_equals_its_definition_at_the_real_size():
    x = _images(2)
    drawn = RandomAugmentation(72, site=0).draw(KEY, 2)
    parameters = Warp(*(values.numpy().tolist() for values in drawn))
    expected = warped(tf.cast(x, tf.float64), parameters, (72, 72), "fused")
    fused = resampling.warp(x, drawn, size=72, formulation="fused")
    _assert_close(fused, expected)
    assert np.var(fused) > 1.05 * np.var(resampling.warp(x, drawn, size=72, formulation="chain"))  # which blurs more
    rows = fused_matrix(parameters, 0, (32, 32), (72, 72))
    np.testing.assert_allclose(rows.sum(1), 1)  # weights of a mean


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("rotation", [0.02, 0])
def test_pipeline_is_equal_in_eager_graph_and_xla_mode(formulation, rotation):
    normalization, x = Normalization(), np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    normalization.fit(x)
    layer = RandomAugmentation(72, rotation_factor=rotation, site=3, formulation=formulation)

    def pipeline(x, key):
        return layer(normalization(x), training=True, key=key)

    expected = pipeline(x, KEY)
    assert expected.dtype == tf.float32 and expected.shape == (5, 72, 72, 3)
    for mode in ("graph", "xla"):
        _assert_close(MODES[mode](pipeline)(x, KEY), expected)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("mode", MODES)
def test_half_precision_rounds_values_and_nothing_else(formulation, dtype, mode):
    # Coordinates of bfloat16 would be whole numbers near 72; the only loss is the images' own rounding.
    x = tf.cast(_images(5), dtype)
    full, half = (RandomAugmentation(72, site=3, formulation=formulation, dtype=each) for each in (tf.float32, dtype))
    expected = full(x, training=True, key=KEY)
    found = MODES[mode](lambda x: half(x, training=True, key=KEY))(x)
    assert found.dtype == dtype
    roundings = {"chain": 3, "fused": 1}[formulation]  # resize, rotate and zoom each keep an image
    unit = {tf.bfloat16: 2.0**-8, tf.float16: 2.0**-11}[dtype]
    _assert_close(found, expected, roundings * unit * np.abs(expected).max())
    assert Normalization(dtype=dtype)(x).dtype == Resizing(5, dtype=dtype)(x).dtype == dtype
    assert Normalization(dtype=dtype).mean.dtype == tf.float32


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_inference_resizes_and_does_nothing_else(formulation):
    x = _images(3)
    layer = RandomAugmentation(72, site=0, formulation=formulation)
    np.testing.assert_array_equal(layer(x), Resizing(72)(x))
    np.testing.assert_array_equal(layer(x, key=KEY), layer(x))
    np.testing.assert_array_equal(RandomAugmentation(32, site=0)(x), x)
    with pytest.raises(ValueError, match="needs a key"):
        layer(x, training=True)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_open_batch_size_and_a_batch_of_one(formulation):
    layer = RandomAugmentation((37, 53), site=0, formulation=formulation)
    traced = tf.function(lambda x, key: layer(x, training=True, key=key), reduce_retracing=False)
    traced = traced.get_concrete_function(tf.TensorSpec((None, 32, 32, 3)), tf.TensorSpec((2,), tf.int32))
    for count in (1, 4):
        x = _images(count)
        _assert_close(traced(x, KEY), layer(x, training=True, key=KEY))


@pytest.mark.parametrize("mode", MODES)
def test_parameters_of_an_image_depend_on_key_and_index_alone(mode):
    layer = RandomAugmentation(72, site=3)
    draw = MODES[mode](lambda count: tuple(layer.draw(KEY, count)))
    whole = layer.draw(KEY, 257)
    for count in (1, 3, 64, 256):
        flips, *others = draw(count)
        np.testing.assert_array_equal(flips, whole.flips[:count])
        for part, values in zip(others, whole[1:], strict=True):
            # XLA may fuse low + (high − low)·unit into one rounding: the last digit of numbers of order 1.
            _assert_close(part, values[:count], 2.0**-23 if mode == "xla" else 0)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_an_image_is_augmented_alike_in_any_company(formulation):
    layer, x = RandomAugmentation(40, site=3, formulation=formulation), _images(7)
    whole = layer(x, training=True, key=KEY).numpy()
    _assert_close(layer(x[:4], training=True, key=KEY), whole[:4], 0)
    # The rest of a split batch, and a permuted one, with the parameters of the images' own indices.
    drawn, order = layer.draw(KEY, 7), np.random.default_rng(0).permutation(7)
    for indices in ([4, 5, 6], order):
        parameters = Warp(*(tf.gather(values, indices) for values in drawn))
        found = resampling.warp(tf.gather(x, indices), parameters, size=40, formulation=formulation)
        _assert_close(found, whole[indices], 0)
    for site, key in ((4, KEY), (3, random.make_key(1))):
        assert not np.intersect1d(RandomAugmentation(40, site=site).draw(key, 7).angles, drawn.angles).size
    other = tf.concat([x[:1], tf.zeros_like(x[1:])], axis=0)
    _assert_close(layer(other, training=True, key=KEY)[0], whole[0], 0)


def test_parameters_have_the_distribution_of_keras():
    n, turn = 100_003, 0.02 * 2 * np.pi
    drawn = RandomAugmentation(72, height_factor=0.2, width_factor=0.3, site=0).draw(KEY, n)
    assert abs(np.mean(drawn.flips) - 0.5) <= 5 * 0.5 / np.sqrt(n)  # five standard deviations
    columns = [np.asarray(values, np.float64) for values in drawn]
    for values, low, high in zip(columns[1:], (-turn, 0.8, 0.7), (turn, 1.2, 1.3), strict=True):
        width = high - low
        assert low <= values.min() < low + 1e-3 * width and high - 1e-3 * width < values.max() < high + 1e-7
        assert abs(values.mean() - (low + high) / 2) <= 5 * width / np.sqrt(12 * n)
        assert abs(values.var() / (width**2 / 12) - 1) <= 0.02
    correlation = np.corrcoef(columns)
    assert np.abs(correlation - np.eye(4)).max() <= 5 / np.sqrt(n)  # drawn independently of one another
    one = RandomAugmentation(72, rotation_factor=0, height_factor=0, site=0).draw(KEY, 3)
    assert one.angles is None and np.all(one.height_factors == 1) and np.all(one.width_factors != 1)
    assert RandomAugmentation(72, height_factor=0, width_factor=0, site=0).draw(KEY, 3).height_factors is None
    # Keras's own draws fill the same ranges.
    x = np.zeros((5000, 3, 3, 1), np.float32)
    degrees = keras.layers.RandomRotation(0.02).get_random_transformation(x)["angle"]
    assert np.abs(degrees).max() == pytest.approx(np.degrees(turn), rel=0.01)
    zooms = keras.layers.RandomZoom(0.2, 0.3).get_random_transformation(x)
    for name, low, high in (("height_zoom", 0.8, 1.2), ("width_zoom", 0.7, 1.3)):
        assert (np.min(zooms[name]), np.max(zooms[name])) == pytest.approx((low, high), rel=0.01)


IMAGE = tf.ones((2, 11, 7, 3))
REFUSED = {
    "rank 3": (lambda: resampling.resize(IMAGE[0], size=5), r"\(B, H, W, C\).*got float32 of shape \(11, 7, 3\)"),
    "whole numbers": (lambda: resampling.flip(tf.cast(IMAGE, tf.uint8), [True, False]), "floating point.*got uint8"),
    "rank 5": (lambda: resampling.warp(IMAGE[None], Warp(), size=5, formulation="fused"), r"shape \(1, 2, 11, 7, 3\)"),
    "size zero": (lambda: Resizing(0), "size must be .* such as 72.*got 0"),
    "size negative": (lambda: RandomAugmentation((72, -1), site=0), r"size.*got \(72, -1\)"),
    "three sizes": (lambda: resampling.resize(IMAGE, size=(5, 5, 5)), r"size.*got \(5, 5, 5\)"),
    "angles of another batch": (lambda: resampling.rotate(IMAGE, [0.1]), r"angles.*shape \(2,\), got shape \(1,\)"),
    "one angle": (lambda: resampling.rotate(IMAGE, 0.1), r"angles.*shape \(2,\), got shape \(\)"),
    "flips of rank 2": (lambda: resampling.flip(IMAGE, [[True], [False]]), r"flips.*got shape \(2, 1\)"),
    "zoom of one axis": (
        lambda: resampling.warp(IMAGE, Warp(height_factors=[1.0, 1.0]), size=5),
        r"width_factors.*shape \(2,\), got None",
    ),
    "op formulation": (lambda: resampling.warp(IMAGE, Warp(), size=5, formulation="best"), "chain, fused, got 'best'"),
    "formulation": (lambda: RandomAugmentation(72, site=0, formulation="best"), "chain, fused, got 'best'"),
    "rotation negative": (lambda: RandomAugmentation(72, rotation_factor=-0.1, site=0), "such as 0.02, got -0.1"),
    "rotation above a turn": (lambda: RandomAugmentation(72, rotation_factor=7, site=0), "rotation_factor.*got 7"),
    "rotation NaN": (lambda: RandomAugmentation(72, rotation_factor=float("nan"), site=0), "got nan"),
    "zoom to nothing": (lambda: RandomAugmentation(72, height_factor=1.0, site=0), "height_factor.*such as 0.2, got 1"),
    "zoom negative": (lambda: RandomAugmentation(72, width_factor=-0.2, site=0), "width_factor.*got -0.2"),
    "zoom no number": (lambda: RandomAugmentation(72, width_factor="0.2", site=0), "width_factor.*got '0.2'"),
    "no channels": (lambda: Normalization(channels=0), "channels.*such as 3, got 0"),
    "other channels": (lambda: Normalization(channels=5)(IMAGE), r"5 channels.*got \(2, 11, 7, 3\)"),
    "fit on other channels": (lambda: Normalization(channels=5).fit(IMAGE.numpy()), r"fit.*got \(2, 11, 7, 3\)"),
    "fit on one image": (lambda: channel_statistics(IMAGE[0].numpy()), r"got \(11, 7, 3\)"),
    "fit on none": (lambda: channel_statistics(IMAGE[:0].numpy()), r"got \(0, 11, 7, 3\)"),
    "fit on NaN": (
        lambda: channel_statistics(np.where(np.arange(5)[:, None, None, None] == 3, np.nan, IMAGE[:1]), chunk=2),
        "image 3 holds a NaN",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_with_the_field_and_the_value(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build()
