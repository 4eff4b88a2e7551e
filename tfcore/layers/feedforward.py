"""Position-wise networks between attentions, and between other mixers of positions."""

import itertools
from collections.abc import Sequence

import tensorflow as tf

from tfcore import random
from tfcore.layers.conv import DepthwiseConv2D
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.module import Module
from tfcore.ops.activations import gelu, relu


class Mlp(Module):
    """For each of `units`: Dense → GELU → dropout, after the last one too: (..., inputs) -> (..., units[-1]).

    The vision transformer's block and head (Keras examples). Dropout i has the site `site` + i.

    Raises:
        ValueError: for no units, sizes below 1, a rate outside [0, 1).
    """

    def __init__(
        self,
        *,
        inputs: int,
        units: Sequence[int],
        dropout: float,
        site: int,
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if not units:
            raise ValueError("Mlp: units must name at least one size, got none")
        widths = (inputs, *units)
        self.dense = [
            Dense(inputs=before, units=after, key=random.fold_in(key, i), dtype=dtype)
            for i, (before, after) in enumerate(itertools.pairwise(widths))
        ]
        self.dropout = [Dropout(dropout, site=site + i, dtype=dtype) for i in range(len(units))]

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        for dense, dropout in zip(self.dense, self.dropout, strict=True):
            x = dropout(gelu(dense(x)), training=training, key=key)  # (..., units[i])
        return x


class FeedForward(Module):
    """Dense `hidden` → GELU → Dense `units` → dropout: (..., inputs) -> (..., units), the Perceiver's (Keras examples).

    Raises:
        ValueError: for sizes below 1, a rate outside [0, 1).
    """

    def __init__(
        self,
        *,
        inputs: int,
        hidden: int,
        units: int,
        dropout: float,
        site: int,
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        self.hidden = Dense(inputs=inputs, units=hidden, key=random.fold_in(key, 0), dtype=dtype)
        self.output = Dense(inputs=hidden, units=units, key=random.fold_in(key, 1), dtype=dtype)
        self.dropout = Dropout(dropout, site=site, dtype=dtype)

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        return self.dropout(self.output(gelu(self.hidden(x))), training=training, key=key)  # (..., units)


class LocalFeedForward(FeedForward):
    """`FeedForward` in which neighbours meet: Dense `hidden` → GELU → depthwise 3×3 → GELU → Dense `units` → dropout.

    (B, side², inputs) -> (B, side², units), the tokens being the pixels of a square, row by row. LocalViT (Li et al.
    2021, arXiv 2104.05707, section 3.2), with GELU where it has h-swish, and without its batch norms.
    """

    def __init__(self, *, side: int, hidden: int, key: tf.Tensor, dtype: tf.DType = tf.float32, **feed_forward):
        super().__init__(hidden=hidden, key=key, dtype=dtype, **feed_forward)
        self.side = side
        self.local = DepthwiseConv2D(channels=hidden, kernel_size=3, key=random.fold_in(key, 2), dtype=dtype)

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        hidden = gelu(self.hidden(x))  # (B, T, hidden)
        square = tf.reshape(hidden, [-1, self.side, self.side, hidden.shape[2]])  # (B, side, side, hidden)
        hidden = tf.reshape(gelu(self.local(square)), [-1, *hidden.shape[1:]])  # (B, T, hidden)
        return self.dropout(self.output(hidden), training=training, key=key)  # (B, T, units)


class ChannelMlp(Module):
    """Dense `hidden` → ReLU → Dense `channels` without a bias: (..., channels) -> (..., channels).

    For residual branches between batch norms, which would take such a bias away.

    Raises:
        ValueError: for sizes below 1.
    """

    def __init__(self, *, channels: int, hidden: int, key: tf.Tensor, dtype: tf.DType = tf.float32):
        super().__init__()
        self.hidden = Dense(inputs=channels, units=hidden, key=random.fold_in(key, 0), dtype=dtype)
        self.output = Dense(inputs=hidden, units=channels, use_bias=False, key=random.fold_in(key, 1), dtype=dtype)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.output(relu(self.hidden(x)))  # (..., channels)
