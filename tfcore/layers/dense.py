"""The fully connected layer."""

import tensorflow as tf

from tfcore.initializers import Initializer, glorot_uniform
from tfcore.module import Module
from tfcore.ops.parameters import add_parameter
from tfcore.precision import variable_dtype


class Dense(Module):
    """y = x · kernel + bias: (..., inputs) -> (..., units).

    Weights: `kernel` (inputs, units) from the `initializer`, `bias` (units,) zero. Raises ValueError for sizes below 1.
    """

    def __init__(
        self,
        *,
        inputs: int,
        units: int,
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
        self.bias = tf.Variable(tf.zeros([units], stored), name="bias")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(tf.cast(x, self.dtype), [-1, self.kernel.shape[0]])  # (N, inputs)
        # One product over all rows: with leading axes, TensorFlow's gradient would make a kernel for each example, and
        # add them up outside of the product, in the compute dtype.
        y = add_parameter(tf.matmul(rows, tf.cast(self.kernel, self.dtype)), self.bias)  # (N, units)
        return tf.reshape(y, [-1, *x.shape[1:-1], self.kernel.shape[1]])  # (..., units)
