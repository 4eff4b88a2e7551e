"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled up in training, inference does nothing."""

import tensorflow as tf

from tfcore import random
from tfcore.module import Module


class Dropout(Module):
    """In training, zero each element with probability `rate` and multiply the rest by 1 / (1 − rate). Any shape.

    `site` tells this layer's random numbers from every other layer's under the same step key.

    Raises:
        ValueError: unless 0 <= rate < 1; when called in training without a key.
    """

    def __init__(self, rate: float, *, site: int, dtype: tf.DType = tf.float32):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout: rate must be at least 0 and below 1, got {rate}")
        self.rate, self.site, self.dtype = rate, site, dtype

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = tf.cast(x, self.dtype)
        if not training or self.rate == 0:
            return x
        if key is None:
            raise ValueError("Dropout: training needs a key, such as tfcore.random.make_key(seed)")
        kept = random.keep_mask(random.fold_in(key, self.site), tf.shape(x), self.rate)
        return tf.where(kept, x / (1.0 - self.rate), tf.zeros([], self.dtype))
