"""The fully connected layer."""

import tensorflow as tf

from tfcore.initializers import Initializer, glorot_uniform
from tfcore.module import Module
from tfcore.ops.linear import linear
from tfcore.precision import variable_dtype


class Dense(Module):
    """y = x · kernel + bias: (..., inputs) -> (..., units).

    Weights: `kernel` (inputs, units) from the `initializer`, `bias` (units,) zero, none without `use_bias`. Raises
    ValueError for sizes below 1.
    """

    def __init__(
        self,
        *,
        inputs: int,
        units: int,
        use_bias: bool = True,
        initializer: Initializer = glorot_uniform,
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        for name, value in (("inputs", inputs), ("units", units)):
            if value < 1:
                raise ValueError(f"Dense: {name} must be at least 1, got {value}")
        self.dtype = dtype
        stored = variable_dtype(dtype)
        self.kernel = tf.Variable(initializer((inputs, units), key, stored), name="kernel")
        self.bias = tf.Variable(tf.zeros([units], stored), name="bias") if use_bias else None

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return linear(tf.cast(x, self.dtype), tf.cast(self.kernel, self.dtype), self.bias)  # (..., units)
