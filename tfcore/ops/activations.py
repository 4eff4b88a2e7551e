"""Activation functions. Shapes: any; softmax works along the last axis."""

import tensorflow as tf


def relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0), elementwise; its gradient at 0 is 0 (Nair and Hinton 2010)."""
    return tf.nn.relu(x)


def gelu(x: tf.Tensor) -> tf.Tensor:
    """x · Φ(x) = x/2 · (1 + erf(x/√2)), the exact form (Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2)."""
    return 0.5 * x * (1.0 + tf.math.erf(x * 2.0**-0.5))


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """x − max x − log Σ exp(x − max x) along the last axis (..., classes); the shift avoids overflow."""
    # The shift changes no value, so no gradient needs to flow through it.
    shifted = logits - tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))  # (..., classes)
    return shifted - tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=-1, keepdims=True))  # (..., classes)


def softmax(logits: tf.Tensor) -> tf.Tensor:
    """exp(x) / Σ exp(x) along the last axis (..., classes); rows are non-negative and sum to 1."""
    exponentials = tf.exp(logits - tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True)))
    return exponentials / tf.reduce_sum(exponentials, axis=-1, keepdims=True)  # (..., classes)
