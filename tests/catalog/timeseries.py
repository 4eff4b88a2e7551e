"""Entries of the time-series models: probabilities, gradients, and k training steps beside the published Keras text."""

import keras
import numpy as np
import tensorflow as tf

from loops.steps import Metrics, make_train_step
from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.twins import EXACT_IN_FLOAT32, fit, pair_variables
from tfcore import random
from tfcore.layers.transformer import PostNormBlock
from tfcore.models.timeseries import TimeSeriesTransformer
from tfcore.ops.activations import softmax
from tfcore.optimizers.optimizer import Adam

BATCH, STEPS = 5, 10
SIZES = {"length": 13, "classes": 3, "blocks": 2, "heads": 3, "key_dim": 7, "hidden": 11, "head_units": 17}


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


def _transformer(dtype, channels, **options):
    model = TimeSeriesTransformer(
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
    series = random_array((BATCH * STEPS, SIZES["length"], channels), dtype)
    labels = np.random.default_rng(1).integers(0, SIZES["classes"], len(series)).astype(np.int32)

    def train():
        pairs = effective(pair_variables(model, twin))
        optimizer, metrics = Adam(model.named_trainable_variables(), **EXACT_IN_FLOAT32), Metrics()
        step = make_train_step(model, optimizer, metrics, key=random.make_key(0))
        losses = []
        for i in range(STEPS):
            metrics.reset()
            chosen = slice(i * BATCH, (i + 1) * BATCH)
            step(tf.constant(series[chosen]), tf.constant(labels[chosen]), tf.constant(i, tf.int64))
            losses.append(metrics.result()["loss"])
        theirs = fit(twin, series, labels, BATCH, dtype, EXACT_IN_FLOAT32, from_logits=False)
        return [(losses, theirs), *pairs]

    def effective(pairs):
        # The gradient of the keys' bias is zero in exact arithmetic, and rounding is all that Adam would see of it.
        return [pair for path, pair in pairs.items() if not path.endswith("key/bias")]

    pairs = pair_variables(model, twin)
    if model.blocks[0].skips:  # then these have no gradient at all; that they stand still, the steps compare
        pairs = {path: pair for path, pair in pairs.items() if "blocks" not in path or path.endswith("beta")}
    return Case(
        lambda x: softmax(model(x, training=True)),
        lambda x: twin(x, training=True),
        (series[:BATCH],),
        effective(pairs),
        steps=train,
    )


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
    Entry(
        "models.TimeSeriesTransformer[skip]",
        (TimeSeriesTransformer, PostNormBlock),
        lambda d: _transformer(d, 1, constant_branches="skip"),
    ),
]
