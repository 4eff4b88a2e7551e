"""The two-dimensional convolution layer."""

import tensorflow as tf

from tfcore.initializers import Initializer, glorot_uniform
from tfcore.module import Module
from tfcore.ops.convolution import FORMULATIONS, convolve
from tfcore.ops.parameters import add_parameter
from tfcore.ops.patches import Window
from tfcore.ops.pooling import max_pool
from tfcore.precision import variable_dtype


class Conv2D(Module):
    """y = convolve(x, kernel) + bias: (B, H, W, channels) -> (B, H', W', filters); see `tfcore.ops.convolution`.

    Weights: `kernel` (K, K, channels, filters) from the `initializer`, `bias` (filters,) zero.

    Raises:
        ValueError: for sizes below 1, an unknown padding or an unknown formulation.
    """

    def __init__(
        self,
        *,
        channels: int,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        padding: str = "SAME",
        formulation: str = "tensorflow",
        initializer: Initializer = glorot_uniform,
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        for name, value in (("channels", channels), ("filters", filters)):
            if value < 1:
                raise ValueError(f"Conv2D: {name} must be at least 1, got {value}")
        if formulation not in FORMULATIONS:
            raise ValueError(f"Conv2D: formulation must be one of {', '.join(FORMULATIONS)}, got {formulation!r}")
        Window(kernel_size, stride, padding)  # refuses impossible sizes here, not at the first image
        self.stride, self.padding, self.formulation, self.dtype = stride, padding, formulation, dtype
        stored = variable_dtype(dtype)
        shape = (kernel_size, kernel_size, channels, filters)
        self.kernel = tf.Variable(initializer(shape, key, stored), name="kernel")
        self.bias = tf.Variable(tf.zeros([filters], stored), name="bias")

    def __call__(self, x: tf.Tensor, *, pool: int = 1) -> tf.Tensor:
        """Return the convolution; with `pool` the maximum over windows of pool × pool, (B, H'/pool, W'/pool, filters).

        The maximum is taken before the bias is added: max(y) + b = max(y + b) to the last bit, since rounding keeps
        order. The bias, and the sum that is its gradient, then have pool² times fewer elements to go through.
        """
        y = convolve(
            tf.cast(x, self.dtype),
            tf.cast(self.kernel, self.dtype),
            stride=self.stride,
            padding=self.padding,
            formulation=self.formulation,
        )  # (B, H', W', filters)
        if pool > 1:
            y = max_pool(y, kernel_size=pool)  # (B, H'/pool, W'/pool, filters)
        return add_parameter(y, self.bias)
