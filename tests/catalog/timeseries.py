"""Entries of the time-series models: probabilities, gradients, and k training steps beside the published Keras text."""

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.models import training_case
from tests.support.build import build
from tfcore import random
from tfcore.layers.series import RandomShift, SeriesTokens
from tfcore.layers.transformer import AttentionBlock, PostNormBlock
from tfcore.models.timeseries import TimeSeriesTransformer, WindowTransformer

BATCH, STEPS = 5, 10
SIZES = {"length": 13, "classes": 3, "blocks": 2, "heads": 3, "key_dim": 7, "hidden": 11, "head_units": 17}
# 13 steps in strides of 3: the last stride is filled up.
WINDOWED = {"length": 13, "classes": 3, "window": 6, "stride": 3, "width": 10, "blocks": 2, "heads": 5}


class PointwiseConv(keras.layers.Layer):
    """A convolution along time with a kernel of size 1, whose weight is kept without that axis."""

    def __init__(self, inputs, units, dtype):
        super().__init__(dtype=dtype)
        self.kernel = self.add_weight(shape=(inputs, units), name="kernel")
        self.bias = self.add_weight(shape=(units,), name="bias")

    def call(self, x):
        return keras.ops.conv(x, self.kernel[None], padding="valid") + self.bias


def keras_transformer(sizes, dtype, *, dropout=0.0, head_dropout=0.0):
    """After "Timeseries classification with a Transformer model", softmax at the end; `sizes` as our model's."""
    channels = sizes["channels"]
    inputs = x = keras.Input((sizes["length"], channels), dtype=dtype)
    for _ in range(sizes["blocks"]):
        attention = keras.layers.MultiHeadAttention(sizes["heads"], sizes["key_dim"], dropout=dropout, dtype=dtype)
        attended = keras.layers.Dropout(dropout, dtype=dtype)(attention(x, x))
        res = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype)(attended) + x
        hidden = keras.ops.relu(PointwiseConv(channels, sizes["hidden"], dtype)(res))
        hidden = keras.layers.Dropout(dropout, dtype=dtype)(hidden)
        hidden = PointwiseConv(sizes["hidden"], channels, dtype)(hidden)
        x = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype)(hidden) + res
    x = keras.ops.mean(x, axis=2)
    x = keras.layers.Dense(sizes["head_units"], activation="relu", dtype=dtype)(x)
    x = keras.layers.Dropout(head_dropout, dtype=dtype)(x)
    return keras.Model(inputs, keras.layers.Dense(sizes["classes"], activation="softmax", dtype=dtype)(x))


class WindowConv(keras.layers.Layer):
    """A convolution along time whose kernel covers `window` steps, on a series with zeros on both sides."""

    def __init__(self, length, window, stride, width, dtype):
        super().__init__(dtype=dtype)
        self.window, self.stride = window, stride
        left = window - stride
        self.edges = (left, left + -length % stride)
        self.kernel = self.add_weight(shape=(window, width), name="kernel")
        self.bias = self.add_weight(shape=(width,), name="bias")

    def call(self, x):
        padded = keras.ops.pad(x, [[0, 0], self.edges, [0, 0]])
        return keras.ops.conv(padded, self.kernel[:, None], strides=self.stride, padding="valid") + self.bias


def keras_window_transformer(sizes, dtype):
    """The mended model in Keras, without dropout and shift; `sizes` as our model's."""
    width = sizes["width"]
    inputs = keras.Input((sizes["length"], 1), dtype=dtype)
    x = WindowConv(sizes["length"], sizes["window"], sizes["stride"], width, dtype)(inputs)
    # The positions as a loop: a sine for each rate, then a cosine for each.
    half, table = width // 2, np.zeros((x.shape[1], width))
    for token, column in np.ndindex(*table.shape):
        angle = sizes["stride"] * token / 10000 ** (column % half / half)
        table[token, column] = np.sin(angle) if column < half else np.cos(angle)
    x = x + keras.ops.cast(table, dtype)
    for _ in range(sizes["blocks"]):
        y = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype)(x)
        x = x + keras.layers.MultiHeadAttention(sizes["heads"], width // sizes["heads"], dtype=dtype)(y, y)
    x = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype)(x)
    x = keras.layers.GlobalAveragePooling1D(dtype=dtype)(x)
    return keras.Model(inputs, keras.layers.Dense(sizes["classes"], activation="softmax", dtype=dtype)(x))


def _window_transformer(dtype):
    rates = {"dropout": 0.0, "shift": 0.0}
    model = build(WindowTransformer, key=random.make_key(1), dtype=dtype, **WINDOWED, **rates)
    return _case(dtype, model, keras_window_transformer(WINDOWED, dtype.name), channels=1)


def _random_shift(dtype):
    """In training, beside a loop over the same moves; a series of primes shows every step that is out of place."""
    layer, key = RandomShift(5, site=2), random.make_key(3)
    moves = random.integers(random.fold_in(key, 2), [7, 1], -5, 5).numpy()[:, 0]
    assert len(set(moves)) > 3 and min(moves) < 0 < max(moves)

    def theirs(x):
        rows = [[x[i, min(max(step + move, 0), 12)] for step in range(13)] for i, move in enumerate(moves)]
        return tf.stack([tf.stack(row) for row in rows])

    return Case(lambda x: layer(x, training=True, key=key), theirs, (random_array((7, 13), dtype),))


def _transformer(dtype, channels, **options):
    model = build(
        TimeSeriesTransformer,
        key=random.make_key(1),
        channels=channels,
        dropout=0.0,
        head_dropout=0.0,
        dtype=dtype,
        **SIZES,
        **options,
    )
    for i, (path, variable) in enumerate(model.named_variables().items()):
        if path.endswith(("gamma", "beta")):  # their starting values would hide a swapped pair
            variable.assign(random_array(tuple(variable.shape), dtype, seed=10 + i))
    twin = keras_transformer({**SIZES, "channels": channels}, dtype.name)
    return _case(dtype, model, twin, channels)


def _case(dtype, model, twin, channels):
    series = random_array((BATCH * STEPS, SIZES["length"], channels), dtype)
    labels = np.random.default_rng(1).integers(0, SIZES["classes"], len(series)).astype(np.int32)
    return training_case(model, twin, series, labels, dtype, steps=STEPS, twin_ends_in_softmax=True)


ENTRIES = [
    *(
        Entry(
            f"models.TimeSeriesTransformer[{f}] {channels} channel{'s' * (channels > 1)}",
            (TimeSeriesTransformer, PostNormBlock),
            lambda d, f=f, c=channels: _transformer(d, c, formulation=f),
        )
        for f in ("direct", "folded")
        for channels in (1, 5)
    ),
    Entry("models.WindowTransformer", (WindowTransformer, AttentionBlock, SeriesTokens), _window_transformer),
    Entry("layers.RandomShift", (RandomShift,), _random_shift),
    Entry(
        "models.TimeSeriesTransformer[skip]",
        (TimeSeriesTransformer, PostNormBlock),
        lambda d: _transformer(d, 1, constant_branches="skip"),
    ),
]
