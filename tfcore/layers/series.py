"""Layers for univariate series: a random shift in time, and the way from a series to tokens.

Glossary: B batch, T time steps, P window, R stride, S tokens, D width.
"""

import math

import tensorflow as tf

from tfcore import random
from tfcore.layers.dense import Dense
from tfcore.module import Module
from tfcore.ops.positions import sinusoids


class RandomShift(Module):
    """In training, move each series (B, T) or (B, T, C) by its own whole number of steps, at most `reach` either way.

    The value at the end is repeated into the gap. `site` tells this layer's random numbers from every other layer's.

    Raises:
        ValueError: for a negative reach; when called in training without a key.
    """

    def __init__(self, reach: int, *, site: int):
        super().__init__()
        if reach < 0:
            raise ValueError(f"RandomShift: reach must be at least 0, got {reach}")
        self.reach, self.site = reach, site

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        if not training or self.reach == 0:
            return x
        if key is None:
            raise ValueError("RandomShift: training needs a key, such as tfcore.random.make_key(seed)")
        moves = random.integers(random.fold_in(key, self.site), [tf.shape(x)[0], 1], -self.reach, self.reach)  # (B, 1)
        steps = tf.clip_by_value(tf.range(x.shape[1]) + moves, 0, x.shape[1] - 1)  # (B, T)
        return tf.gather(x, steps, batch_dims=1)


class SeriesTokens(Module):
    """Series (B, T) -> tokens (B, S, D): overlapping windows → Dense D → plus the sinusoids of their places.

    Zeros on both sides put every time step into exactly P / R windows: S = ⌈T / R⌉ + P / R − 1. What patches are to a
    vision transformer; the linear map of windows is a convolution with kernel P and stride R.

    Args:
        length: T.
        window: P, in time steps; a multiple of the stride R.

    Raises:
        ValueError: for sizes below 1, a window that is no multiple of the stride, an odd width.
    """

    def __init__(
        self, *, length: int, window: int, stride: int, width: int, key: tf.Tensor, dtype: tf.DType = tf.float32
    ):
        super().__init__()
        for name, value in (("length", length), ("window", window), ("stride", stride)):
            if value < 1:
                raise ValueError(f"SeriesTokens: {name} must be at least 1, got {value}")
        if window % stride:
            raise ValueError(f"SeriesTokens: window must be a multiple of the stride {stride}, got {window}")
        self.length, self.window, self.stride, self.dtype = length, window, stride, dtype
        self.count = math.ceil(length / stride) + window // stride - 1
        self.projection = Dense(inputs=window, units=width, key=key, dtype=dtype)
        self.positions = sinusoids(self.count, width, step=stride)  # (S, D)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, self.dtype)  # (B, T)
        # Only whole strides are cut and joined, which is cheaper than to gather windows.
        edge, overlap = self.window - self.stride, self.window // self.stride
        strides = self.count + overlap - 1
        x = tf.pad(x, [[0, 0], [edge, strides * self.stride - edge - self.length]])  # (B, strides · R)
        x = tf.reshape(x, [-1, strides, self.stride])  # (B, strides, R)
        windows = tf.concat([x[:, i : i + self.count] for i in range(overlap)], axis=2)  # (B, S, P)
        return self.projection(windows) + tf.constant(self.positions, self.dtype)  # (B, S, D)
