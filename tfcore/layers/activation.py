"""Activation functions as layers: chosen by name, or with a slope that is learned."""

import functools

import tensorflow as tf

from tfcore.module import Module
from tfcore.ops import activations
from tfcore.precision import variable_dtype

FUNCTIONS = {
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu,
    "gelu": activations.gelu,
}


class Activation(Module):
    """y = f(x), elementwise, for the f of that name (`tfcore.ops.activations`); no weights.

    `slope` is that of "leaky_relu" below zero; the other functions have none.

    Raises:
        ValueError: for an unknown name, or unless 0 <= slope < 1.
    """

    def __init__(self, name: str, *, slope: float = 0.01):
        super().__init__()
        if name not in FUNCTIONS:
            raise ValueError(f"Activation: name must be one of {', '.join(FUNCTIONS)}, got {name!r}")
        if not 0 <= slope < 1:
            raise ValueError(f"Activation: slope must be at least 0 and below 1, such as 0.01, got {slope}")
        self.function = FUNCTIONS[name]
        if name == "leaky_relu":
            self.function = functools.partial(self.function, slope=slope)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.function(x)


class PRelu(Module):
    """y = prelu(x, alpha): (B, ..., C) -> (B, ..., C), `shape` being (..., C); a ReLU that learns its slope.

    `axis`: "channel" learns one slope for each channel (He et al. 2015), "all" one for each element (Keras's default).
    `initial_slope`: 0, a ReLU, in Keras; 0.25 in the paper.

    Weights: `alpha` (1, ..., C) or `shape`, all `initial_slope`.

    Raises:
        ValueError: for a shape without axes or with sizes below 1, or an unknown axis.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        axis: str = "channel",
        initial_slope: float = 0.0,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if not shape or min(shape) < 1:
            raise ValueError(f"PRelu: shape must be sizes of at least 1, such as (32, 32, 3), got {shape}")
        if axis not in ("channel", "all"):
            raise ValueError(f"PRelu: axis must be one of channel, all, got {axis!r}")
        self.dtype = dtype
        learned = shape if axis == "all" else (*[1] * (len(shape) - 1), shape[-1])
        self.alpha = tf.Variable(tf.fill(learned, tf.constant(initial_slope, variable_dtype(dtype))), name="alpha")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return activations.prelu(tf.cast(x, self.dtype), self.alpha)
