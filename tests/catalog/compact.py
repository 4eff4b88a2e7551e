"""Entries of the vision transformer's options beside a compact convolutional transformer made of Keras's layers."""

import keras
import numpy as np

from tests.catalog.entry import Entry, random_array
from tests.catalog.models import WITHOUT_EFFECT, training_case
from tests.catalog.sequence import exact_gelu
from tests.support.build import build
from tfcore import random
from tfcore.layers.feedforward import LocalFeedForward
from tfcore.layers.tokens import ConvolutionTokens, SequencePool
from tfcore.models.vit import VisionTransformer

BATCH, STEPS, SIDE = 5, 10, 11  # 11 → 6 → 3 pixels a side
WIDTH, HEADS, KEY_DIM, HIDDEN, FILTERS, CLASSES = 10, 3, 7, 13, (5,), 3


class KerasTokens(keras.layers.Layer):
    """Convolution → ReLU → overlapping max-pool, twice, then learned positions."""

    def __init__(self, mean, variance, dtype):
        super().__init__(dtype=dtype)
        self.mean, self.deviation = mean, np.sqrt(variance)
        conv = {"padding": "same", "use_bias": False, "activation": "relu", "dtype": dtype}
        self.convolutions = [keras.layers.Conv2D(filters, 3, **conv) for filters in (*FILTERS, WIDTH)]
        self.pool = keras.layers.MaxPooling2D(3, strides=2, padding="same", dtype=dtype)
        self.embedding = keras.layers.Embedding(9, WIDTH, dtype=dtype)

    def call(self, images):
        x = (images - self.mean) / self.deviation
        for convolution in self.convolutions:
            x = self.pool(convolution(x))
        return keras.ops.reshape(x, (-1, 9, WIDTH)) + self.embedding(np.arange(9))


class KerasBlock(keras.layers.Layer):
    """The pre-norm block with heads of a width of their own; `local`: a depthwise convolution between dense layers."""

    def __init__(self, local, gelu, dtype):
        super().__init__(dtype=dtype)
        self.gelu = gelu
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype) for _ in range(2)]
        self.attention = keras.layers.MultiHeadAttention(HEADS, KEY_DIM, dtype=dtype)
        self.dense = [keras.layers.Dense(units, dtype=dtype) for units in (HIDDEN, WIDTH)]
        self.local = keras.layers.DepthwiseConv2D(3, padding="same", dtype=dtype) if local else None

    def call(self, x):
        y = self.norms[0](x)
        x = x + self.attention(y, y)
        y = self.gelu(self.dense[0](self.norms[1](x)))
        if self.local:
            square = keras.ops.reshape(y, (-1, 3, 3, HIDDEN))
            y = keras.ops.reshape(self.gelu(self.local(square)), (-1, 9, HIDDEN))
        return x + self.dense[1](y)


class KerasCct(keras.Model):
    """After "Escaping the big data paradigm with compact transformers" (Hassani et al. 2021)."""

    def __init__(self, mean, variance, local, dtype):
        super().__init__(dtype=dtype)
        gelu = exact_gelu if dtype == "float64" else keras.activations.gelu
        self.tokens = KerasTokens(mean, variance, dtype)
        self.blocks = [KerasBlock(local, gelu, dtype) for _ in range(2)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype)
        self.score = keras.layers.Dense(1, use_bias=False, dtype=dtype)
        self.logits = keras.layers.Dense(CLASSES, dtype=dtype)

    def call(self, images, training=False):
        x = self.tokens(images)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        weights = keras.ops.softmax(self.score(x), axis=1)
        return self.logits(keras.ops.sum(weights * x, axis=1))


def _compact(dtype, feed_forward):
    rng = np.random.default_rng(0)
    images = (255 * rng.random((BATCH * STEPS, SIDE, SIDE, 3))).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, CLASSES, len(images)).astype(np.int32)
    model = build(
        VisionTransformer,
        image_size=SIDE,
        stem="convolution",
        stem_filters=FILTERS,
        width=WIDTH,
        blocks=2,
        heads=HEADS,
        key_dim=KEY_DIM,
        feed_forward=feed_forward,
        mlp_width=HIDDEN,
        dropout=0.0,
        head="sequence",
        head_units=(),
        head_dropout=0.0,
        augmentation="none",
        key=random.make_key(1),
        classes=CLASSES,
        dtype=dtype,
    )
    model.tokens.normalization.fit(images)
    for i, (path, variable) in enumerate(model.named_trainable_variables().items()):
        if path.endswith(("gamma", "beta", "bias")):  # their starting values would hide a swapped pair
            variable.assign_add(0.1 * random_array(tuple(variable.shape), dtype, seed=10 + i))
    mean, variance = (value.numpy() for value in model.tokens.normalization.variables)
    twin = KerasCct(mean, variance, feed_forward == "local", dtype.name)
    twin(images[:1])  # builds it
    return training_case(model, twin, images, labels, dtype, steps=STEPS, without_effect=WITHOUT_EFFECT)


ENTRIES = [
    Entry(
        f"models.VisionTransformer compact, {feed_forward}",
        (VisionTransformer, ConvolutionTokens, SequencePool, *([LocalFeedForward] if feed_forward == "local" else [])),
        lambda d, f=feed_forward: _compact(d, f),
    )
    for feed_forward in ("linear", "local")
]
