"""The affine map of dense layers and projections."""

import tensorflow as tf

from tfcore.ops.parameters import add_parameter


def linear(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | tf.Variable | None) -> tf.Tensor:
    """x W + b along the last axis: (B, ..., C), (C, D), (D,) -> (B, ..., D).

    `bias` may be in its stored dtype; None: x W.
    """
    # One product over all rows: with leading axes, TensorFlow's gradient would make a kernel for each example, and add
    # them up outside of the product, in the compute dtype.
    y = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)  # (N, D)
    if bias is not None:
        y = add_parameter(y, bias)
    return tf.reshape(y, [-1, *x.shape[1:-1], kernel.shape[1]])  # (B, ..., D)
