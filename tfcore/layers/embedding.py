"""A learned vector for each position."""

import tensorflow as tf

from tfcore import random
from tfcore.module import Module
from tfcore.precision import variable_dtype


class Embedding(Module):
    """A table of learned vectors: () -> (count, width).

    Weight: `embeddings` (count, width), uniform in ±0.05 as Keras's. Raises ValueError for sizes below 1.
    """

    def __init__(self, *, count: int, width: int, key: tf.Tensor, dtype: tf.DType = tf.float32):
        super().__init__()
        for name, value in (("count", count), ("width", width)):
            if value < 1:
                raise ValueError(f"Embedding: {name} must be at least 1, got {value}")
        self.dtype = dtype
        table = random.uniform(key, (count, width), -0.05, 0.05, variable_dtype(dtype))
        self.embeddings = tf.Variable(table, name="embeddings")

    def __call__(self) -> tf.Tensor:
        return tf.cast(self.embeddings, self.dtype)  # (count, width)
