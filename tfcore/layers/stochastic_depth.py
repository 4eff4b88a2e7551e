"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382): in training, an example skips some residual branches."""

import tensorflow as tf

from tfcore import random
from tfcore.module import Module


class StochasticDepth(Module):
    """In training, zero all of an example's x with probability `rate`, else multiply it by 1 / (1 − rate).

        y[b] = kept[b] · x[b] / (1 − rate)        (B, ...) -> (B, ...)

    Inverted, as dropout: the paper scales the branch down at inference instead (equation 5), the same in expectation.
    `site` tells this layer's random numbers from every other layer's under the same step key.

    Raises:
        ValueError: unless 0 <= rate < 1; when called in training without a key.
    """

    def __init__(self, rate: float, *, site: int, dtype: tf.DType = tf.float32):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"StochasticDepth: rate must be at least 0 and below 1, got {rate}")
        self.rate, self.site, self.dtype = rate, site, dtype

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = tf.cast(x, self.dtype)
        if not training or self.rate == 0:
            return x
        if key is None:
            raise ValueError("StochasticDepth: training needs a key, such as tfcore.random.make_key(seed)")
        kept = random.keep_mask(random.fold_in(key, self.site), tf.shape(x)[:1], self.rate)  # (B,)
        factor = tf.cast(kept, self.dtype) / (1.0 - self.rate)
        return x * tf.reshape(factor, [-1, *[1] * (x.shape.rank - 1)])  # (B, ...) x (B, 1, ...)


def linear_rates(last: float, blocks: int) -> list[float]:
    """Return each block's rate, rising linearly from last / blocks to `last` (equation 4)."""
    return [last * (i + 1) / blocks for i in range(blocks)]
