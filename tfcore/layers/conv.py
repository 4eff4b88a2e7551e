"""Convolution layers: of images over all channels and of each channel by itself, and of series."""

import math

import tensorflow as tf

from tfcore import random
from tfcore.initializers import Initializer, glorot_uniform
from tfcore.module import Module
from tfcore.ops.convolution import DEPTHWISE_FORMULATIONS, FORMULATIONS, convolve, convolve_depthwise, convolve_series
from tfcore.ops.parameters import add_parameter
from tfcore.ops.patches import Window
from tfcore.ops.pooling import max_pool
from tfcore.precision import variable_dtype


class Conv2D(Module):
    """y = convolve(x, kernel) + bias: (B, H, W, channels) -> (B, H', W', filters); see `tfcore.ops.convolution`.

    Weights: `kernel` (K, K, channels, filters) from the `initializer`, `bias` (filters,) zero, none without `use_bias`
    (a batch norm that follows would take it away).

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
        use_bias: bool = True,
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
        self.bias = tf.Variable(tf.zeros([filters], stored), name="bias") if use_bias else None

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
        return y if self.bias is None else add_parameter(y, self.bias)


class DepthwiseConv2D(Module):
    """Each channel convolved with its own K × K weights: (B, H, W, channels) -> (B, H', W', channels).

    y = convolve_depthwise(x, kernel) + bias; see `tfcore.ops.convolution`.

    Weights: `kernel` (K, K, channels, 1) uniform in ±√(6 / (K² + K²)), for K² weights are summed up; `bias`
    (channels,) zero, none without `use_bias`.

    Raises:
        ValueError: for sizes below 1, an unknown padding or an unknown formulation.
    """

    def __init__(
        self,
        *,
        channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: str = "SAME",
        use_bias: bool = True,
        formulation: str = "auto",
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if channels < 1:
            raise ValueError(f"DepthwiseConv2D: channels must be at least 1, got {channels}")
        known = (*DEPTHWISE_FORMULATIONS, "auto")
        if formulation not in known:
            raise ValueError(f"DepthwiseConv2D: formulation must be one of {', '.join(known)}, got {formulation!r}")
        Window(kernel_size, stride, padding)  # refuses impossible sizes here, not at the first image
        self.stride, self.padding, self.formulation, self.dtype = stride, padding, formulation, dtype
        stored = variable_dtype(dtype)
        limit = math.sqrt(3.0) / kernel_size
        kernel = random.uniform(key, (kernel_size, kernel_size, channels, 1), -limit, limit, stored)
        self.kernel = tf.Variable(kernel, name="kernel")
        self.bias = tf.Variable(tf.zeros([channels], stored), name="bias") if use_bias else None

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        y = convolve_depthwise(
            tf.cast(x, self.dtype),
            tf.cast(self.kernel, self.dtype),
            stride=self.stride,
            padding=self.padding,
            formulation=self.formulation,
        )  # (B, H', W', channels)
        return y if self.bias is None else add_parameter(y, self.bias)


class Conv1D(Module):
    """y = convolve_series(x, kernel) + bias: (B, T, channels) -> (B, T', filters); see `tfcore.ops.convolution`.

    Weights: `kernel` (K, channels, filters) from the `initializer`, `bias` (filters,) zero, none without `use_bias`.

    Raises:
        ValueError: for sizes below 1, or an unknown padding.
    """

    def __init__(
        self,
        *,
        channels: int,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        padding: str = "SAME",
        use_bias: bool = True,
        initializer: Initializer = glorot_uniform,
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        for name, value in (("channels", channels), ("filters", filters)):
            if value < 1:
                raise ValueError(f"Conv1D: {name} must be at least 1, got {value}")
        Window(kernel_size, stride, padding)  # refuses impossible sizes here, not at the first series
        self.stride, self.padding, self.dtype = stride, padding, dtype
        stored = variable_dtype(dtype)
        self.kernel = tf.Variable(initializer((kernel_size, channels, filters), key, stored), name="kernel")
        self.bias = tf.Variable(tf.zeros([filters], stored), name="bias") if use_bias else None

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x, kernel = tf.cast(x, self.dtype), tf.cast(self.kernel, self.dtype)
        y = convolve_series(x, kernel, stride=self.stride, padding=self.padding)  # (B, T', filters)
        return y if self.bias is None else add_parameter(y, self.bias)
