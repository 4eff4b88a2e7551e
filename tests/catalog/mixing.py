"""Entries of `tfcore.ops.mixing` and the layer over it, beside Keras's layers at the same draws, or slices of a pad."""

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tfcore import random
from tfcore.layers.mixing import SITE, Mixing, MixingConfig
from tfcore.ops import mixing

BATCH, HEIGHT, WIDTH, CHANNELS = 3, 11, 7, 5
SHAPE = (BATCH, HEIGHT, WIDTH, CHANNELS)
ROWS, COLUMNS, FLIPS = np.array([-2, 0, 3], np.int32), np.array([1, -3, 2], np.int32), np.array([True, False, True])
KEY = (3, 5)


def cropped(x: tf.Tensor, rows, columns, flips) -> tf.Tensor:
    """Each image cut out of itself in a frame of its reflections, as wide as the largest shift."""
    frame = int(np.abs([rows, columns]).max())
    padded = tf.pad(x, [(0, 0), (frame, frame), (frame, frame), (0, 0)], "SYMMETRIC")
    parts = []
    for i in range(BATCH):
        top, left = frame + int(rows[i]), frame + int(columns[i])
        part = padded[i, top : top + HEIGHT, left : left + WIDTH]
        parts.append(part[:, ::-1] if flips[i] else part)
    return tf.stack(parts)


def _shift_and_mirror(dtype):
    def ours(x):
        return mixing.shift_and_mirror(x, tf.constant(ROWS), tf.constant(COLUMNS), tf.constant(FLIPS))

    return Case(ours, lambda x: cropped(x, ROWS, COLUMNS, FLIPS), (random_array(SHAPE, dtype),))


def _boxes(x: tf.Tensor, rows, columns, heights, widths) -> np.ndarray:
    masks = np.zeros((BATCH, HEIGHT, WIDTH, 1), bool)
    for mask, row, column, height, width in zip(masks, rows, columns, heights, widths, strict=True):
        top, left = int(row) - int(height) // 2, int(column) - int(width) // 2
        mask[max(top, 0) : max(top + int(height), 0), max(left, 0) : max(left + int(width), 0)] = True
    return masks


PLACES = (np.array([0, 5, 10], np.int32), np.array([6, 3, 1], np.int32))


def _erase(dtype):
    def theirs(x):
        masks = tf.constant(_boxes(x, *PLACES, [4] * BATCH, [4] * BATCH), x.dtype)
        return x * (1 - masks) + masks * keras.ops.mean(x, axis=(1, 2), keepdims=True)

    return Case(lambda x: mixing.erase(x, *map(tf.constant, PLACES), size=4), theirs, (random_array(SHAPE, dtype),))


def _inside(dtype):
    sizes = (np.array([0, 3, 4], np.int32), np.array([2, 7, 5], np.int32))

    def ours(x):
        return tf.cast(mixing.inside((HEIGHT, WIDTH), *map(tf.constant, (*PLACES, *sizes))), x.dtype) * x

    return Case(ours, lambda x: tf.constant(_boxes(x, *PLACES, *sizes), x.dtype) * x, (random_array(SHAPE, dtype),))


def _mixup(dtype):
    weights = np.random.default_rng(0).random(BATCH).astype(dtype.as_numpy_dtype)

    def theirs(x):
        order = tf.range(BATCH - 1, -1, -1)
        draws = {"mix_weight": tf.constant(weights), "permutation_order": order}
        return keras.layers.MixUp(dtype=dtype.name).transform_images(x, draws)

    return Case(lambda x: mixing.blend(x, weights[:, None, None, None]), theirs, (random_array(SHAPE, dtype),))


def _cutmix(dtype):
    masks = _boxes(None, *PLACES, [3, 5, 2], [4, 3, 6])

    def theirs(x):
        draws = {"batch_masks": tf.constant(masks), "permutation_order": tf.range(BATCH - 1, -1, -1)}
        return keras.layers.CutMix(dtype=dtype.name).transform_images(x, draws)

    return Case(lambda x: mixing.blend(x, 1 - tf.constant(masks, x.dtype)), theirs, (random_array(SHAPE, dtype),))


def _beta(dtype):
    """The quantiles of Beta(1, 1), in closed form; others stand in `tests/test_mixing.py`, to the table's accuracy.

    Nothing asks for a gradient of a draw; that of a table is the difference of two neighbours, all rounding.
    """
    uniform = np.random.default_rng(0).random((11, 7)).astype(dtype.as_numpy_dtype)
    return Case(lambda u: mixing.beta_quantile(u, 1.0), lambda u: u, (uniform,), differentiable=False)


def _layer(dtype):
    """Crop, mirror and mixup, drawn once more from the same streams."""
    config = MixingConfig(crop_padding=3, mirror=True, mixup_alpha=1.0)
    key = tf.constant(KEY, tf.int32)

    def theirs(x):
        own = random.fold_in(key, SITE)
        rows, columns = (random.integers(random.fold_in(own, i), [BATCH], -3, 3).numpy() for i in (0, 1))
        flips = random.keep_mask(random.fold_in(own, 2), [BATCH], 0.5).numpy()
        x = cropped(x, rows, columns, flips)
        shares = random.uniform(random.fold_in(own, 6), [BATCH], 0.0, 1.0, dtype=dtype)  # α = 1: no other than these
        weights = shares[:, None, None, None]
        return weights * x + (1 - weights) * x[::-1], shares

    layer = Mixing(config)
    return Case(lambda x: layer(x, key=key), theirs, (random_array(SHAPE, dtype),))


ENTRIES = [
    Entry("ops.shift_and_mirror", (mixing.shift_and_mirror,), _shift_and_mirror),
    Entry("ops.erase", (mixing.erase,), _erase),
    Entry("ops.inside", (mixing.inside,), _inside),
    Entry("ops.blend mixup", (mixing.blend,), _mixup),
    Entry("ops.blend CutMix", (mixing.blend,), _cutmix),
    Entry("ops.beta_quantile", (mixing.beta_quantile,), _beta),
    Entry("layers.Mixing", (Mixing,), _layer),
]
