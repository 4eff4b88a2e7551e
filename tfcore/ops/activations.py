"""Activation functions. Shapes: any; softmax works along the last axis."""

import tensorflow as tf

from tfcore.context import interceptable
from tfcore.ops.parameters import multiply_parameter


@interceptable
def relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0), elementwise; its gradient at 0 is 0 (Nair and Hinton 2010)."""
    return tf.nn.relu(x)


@interceptable
def gelu(x: tf.Tensor) -> tf.Tensor:
    """x · Φ(x) = x/2 · (1 + erf(x/√2)), the exact form (Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2)."""
    return 0.5 * x * (1.0 + tf.math.erf(x * 2.0**-0.5))


@interceptable
def leaky_relu(x: tf.Tensor, slope: float) -> tf.Tensor:
    """x where x > 0, slope · x elsewhere (Maas et al. 2013); its gradient at 0 is the slope, as in Keras."""
    return tf.where(x > 0, x, slope * x)


@interceptable
def prelu(x: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """max(x, 0) + a · min(0, x) with a learned slope a (He et al. 2015, arXiv 1502.01852, equation 1).

    (B, ..., C), slope broadcast over the leading axes -> (B, ..., C). Written with min(0, x) = −max(−x, 0), as Keras
    does, so that the gradient at 0 is 0 from both sides.
    """
    return tf.nn.relu(x) - multiply_parameter(tf.nn.relu(-x), slope)


@interceptable
def sigmoid(x: tf.Tensor) -> tf.Tensor:
    """1 / (1 + exp(−x)), elementwise, in the form whose exponential cannot overflow.

        x ≥ 0: 1 / (1 + exp(−x))        x < 0: exp(x) / (1 + exp(x))

    The plain formula has the right limit for x → −∞, but a gradient of 0 · ∞.
    """
    positive = x >= 0
    e = tf.exp(tf.where(positive, -x, x))  # exp(−|x|), but with a gradient at 0
    return tf.where(positive, tf.ones_like(e), e) / (1.0 + e)


@interceptable
def tanh(x: tf.Tensor) -> tf.Tensor:
    """(exp(x) − exp(−x)) / (exp(x) + exp(−x)), elementwise; the same curve as 2 · sigmoid(2x) − 1."""
    return tf.math.tanh(x)


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """x − max x − log Σ exp(x − max x) along the last axis (..., classes); the shift avoids overflow."""
    # The shift changes no value, so no gradient needs to flow through it.
    shifted = logits - tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))  # (..., classes)
    return shifted - tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=-1, keepdims=True))  # (..., classes)


def softmax(logits: tf.Tensor) -> tf.Tensor:
    """exp(x) / Σ exp(x) along the last axis (..., classes); rows are non-negative and sum to 1."""
    exponentials = tf.exp(logits - tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True)))
    return exponentials / tf.reduce_sum(exponentials, axis=-1, keepdims=True)  # (..., classes)
