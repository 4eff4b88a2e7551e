"""Entries of the convolution of series and of the network made of it, beside Keras's layers."""

import keras
import numpy as np

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.models import WITHOUT_EFFECT, training_case
from tests.catalog.sequence import exact_gelu
from tests.catalog.twins import pair_variables
from tests.support.build import build
from tfcore import random
from tfcore.layers.conv import Conv1D
from tfcore.models.convolution_transformer import ConvolutionTransformer
from tfcore.ops.convolution import convolve_series
from tfcore.ops.positions import sinusoids

BATCH, STEPS, LENGTH, CHANNELS, CLASSES = 5, 10, 13, 2, 3  # 13 → 7 → 4 steps
SIZES = {
    "kernels": (2, 5),
    "stem_filters": 3,
    "filters": (7, 10),
    "kernel_size": 3,
    "blocks": 2,
    "heads": 5,
    "mlp_width": 11,
}


def _convolve(dtype, size, stride, padding):
    def theirs(x, kernel):
        return keras.ops.conv(x, kernel, strides=stride, padding=padding.lower())

    def ours(x, kernel):
        return convolve_series(x, kernel, stride=stride, padding=padding)

    return Case(ours, theirs, (random_array((2, 11, 5), dtype), random_array((size, 5, 3), dtype, 1)))


def _layer(dtype, use_bias):
    layer = Conv1D(
        channels=5, filters=3, kernel_size=4, stride=2, use_bias=use_bias, key=random.make_key(3), dtype=dtype
    )
    if layer.bias is not None:
        layer.bias.assign(random_array((3,), dtype, 1))
    twin = keras.layers.Conv1D(3, 4, strides=2, padding="same", use_bias=use_bias, dtype=dtype.name)
    x = random_array((2, 11, 5), dtype)
    twin.build(x.shape)
    return Case(layer, twin, (x,), list(pair_variables(layer, twin).values()))


class KerasBlock(keras.layers.Layer):
    """The pre-norm block."""

    def __init__(self, dtype):
        super().__init__(dtype=dtype)
        gelu = exact_gelu if dtype == "float64" else keras.activations.gelu
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype) for _ in range(2)]
        self.attention = keras.layers.MultiHeadAttention(5, 2, dtype=dtype)
        self.dense = [keras.layers.Dense(11, activation=gelu, dtype=dtype), keras.layers.Dense(10, dtype=dtype)]

    def call(self, x):
        y = self.norms[0](x)
        x = x + self.attention(y, y)
        return x + self.dense[1](self.dense[0](self.norms[1](x)))


class KerasConvolutionTransformer(keras.Model):
    """Convolutions side by side, convolutions one after the other, blocks, mean over time."""

    def __init__(self, dtype):
        super().__init__(dtype=dtype)
        conv = {"padding": "same", "use_bias": False, "dtype": dtype}
        self.stem = [keras.layers.Conv1D(3, size, **conv) for size in (2, 5)]
        self.convolutions = [keras.layers.Conv1D(filters, 3, strides=2, **conv) for filters in (7, 10)]
        self.norms = [keras.layers.BatchNormalization(dtype=dtype) for _ in range(3)]
        self.blocks = [KerasBlock(dtype) for _ in range(2)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype)
        self.pool = keras.layers.GlobalAveragePooling1D(dtype=dtype)
        self.logits = keras.layers.Dense(CLASSES, dtype=dtype)

    def call(self, series, training=False):
        x = keras.ops.concatenate([convolution(series) for convolution in self.stem], axis=2)
        x = keras.ops.relu(self.norms[0](x, training=training))
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = keras.ops.relu(norm(convolution(x), training=training))
        x = x + keras.ops.cast(sinusoids(4, 10, step=4), x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.pool(self.norm(x)))


def _model(dtype):
    rates = {"dropout": 0.0, "head_dropout": 0.0, "shift": 0.0}
    sizes = {"length": LENGTH, "channels": CHANNELS, "classes": CLASSES}
    model = build(ConvolutionTransformer, **SIZES, **rates, **sizes, key=random.make_key(1), dtype=dtype)
    for i, (path, variable) in enumerate(model.named_trainable_variables().items()):
        if path.endswith(("gamma", "beta", "bias")):  # their starting values would hide a swapped pair
            variable.assign_add(0.1 * random_array(tuple(variable.shape), dtype, seed=10 + i))
    series = random_array((BATCH * STEPS, LENGTH, CHANNELS), dtype)
    labels = np.random.default_rng(1).integers(0, CLASSES, len(series)).astype(np.int32)
    twin = KerasConvolutionTransformer(dtype.name)
    twin(series[:1])  # builds it
    return training_case(model, twin, series, labels, dtype, steps=STEPS, without_effect=WITHOUT_EFFECT)


ENTRIES = [
    *(
        Entry(
            f"ops.convolve_series {size} stride {stride} {padding}",
            (convolve_series,),
            lambda d, s=(size, stride, padding): _convolve(d, *s),
        )
        for size, stride, padding in ((3, 1, "SAME"), (4, 2, "SAME"), (5, 3, "VALID"))
    ),
    Entry("layers.Conv1D", (Conv1D,), lambda d: _layer(d, True)),
    Entry("layers.Conv1D without bias", (Conv1D,), lambda d: _layer(d, False)),
    Entry("models.ConvolutionTransformer", (ConvolutionTransformer,), _model),
]
