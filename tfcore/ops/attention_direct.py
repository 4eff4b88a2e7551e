"""Attention with the matrix of all weights, and a gradient of its own. Glossary as in `tfcore.ops.attention`."""

import tensorflow as tf

from tfcore.ops.attention_dropout import keep_all
from tfcore.ops.gradients import first_order
from tfcore.precision import statistics_dtype


def attend_direct(query, key, value, mask, dropout_rate, dropout_key) -> tf.Tensor:
    """Attention as the paper writes it, with the matrix of all weights."""
    if dropout_rate == 0:
        return mix(query, key, value, mask=mask)
    kept = keep_all(dropout_key, tf.shape(query)[:3], key.shape[2], dropout_rate)  # (B, N, T, S)
    return mix(query, key, value, mask=mask, kept=kept) * tf.constant(1.0 / (1.0 - dropout_rate), value.dtype)


def mix(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    *,
    mask: tf.Tensor | None = None,
    kept: tf.Tensor | None = None,
) -> tf.Tensor:
    """(M ∘ P) V with P = softmax(Q Kᵀ): (B, N, T, d), (B, N, S, d), (B, N, S, e) -> (B, N, T, e).

    M (B, N, T, S) is `kept`, of zeros and ones; dropout's factor is left to the caller, who may have a smaller place
    for it. Left to TensorFlow, the backward pass would read eight T × S matrices and write ten. This one keeps P alone:

        ∂V = (M ∘ P)ᵀ ∂Y      ∂S = P ∘ (M ∘ (∂Y Vᵀ) − rowsum(∂Y ∘ Y))      ∂Q = ∂S K      ∂K = ∂Sᵀ Q

    The sum over S in the softmax's gradient is one over e (Dao et al. 2022, arXiv 2205.14135, appendix B.2).

    Raises:
        NotImplementedError: for the gradient of a gradient.
    """

    def keep(x):
        return x if kept is None else x * tf.cast(kept, x.dtype)  # in half precision a product is faster than tf.where

    @tf.custom_gradient
    def run(query, key, value):
        # In eager mode an outer tape would record what happens in here, and keep every matrix for it.
        inputs = tuple(map(tf.stop_gradient, (query, key, value)))
        weights = tf.cast(softmax_weights(inputs[0], inputs[1], mask), value.dtype)  # (B, N, T, S)
        output = tf.matmul(keep(weights), inputs[2])  # (B, N, T, S) x (B, N, S, e) -> (B, N, T, e)

        def gradient(upstream):
            return first_order(backward, upstream, *inputs, weights, output, of="attention")

        return output, gradient

    def backward(upstream, query, key, value, weights, output):
        high = statistics_dtype(upstream.dtype)
        inner = tf.reduce_sum(tf.cast(upstream, high) * tf.cast(output, high), axis=3, keepdims=True)  # (B, N, T, 1)
        grad_value = tf.matmul(keep(weights), upstream, transpose_a=True)  # (B, N, S, e)
        grad_weights = keep(tf.matmul(upstream, value, transpose_b=True))  # (B, N, T, S)
        grad_scores = weights * (grad_weights - tf.cast(inner, weights.dtype))  # (B, N, T, S)
        return tf.matmul(grad_scores, key), tf.matmul(grad_scores, query, transpose_a=True), grad_value

    return run(query, key, value)


def softmax_weights(query: tf.Tensor, key: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """softmax(Q Kᵀ) over the allowed keys, in float32 at least: (B, N, T, d), (B, N, S, d) -> (B, N, T, S)."""
    scores = tf.matmul(query, key, transpose_b=True)  # (B, N, T, d) x (B, N, S, d) -> (B, N, T, S)
    scores = tf.cast(scores, statistics_dtype(scores.dtype))
    if mask is None:
        return tf.nn.softmax(scores)
    # The lowest number, not −∞: the softmax of a row of −∞, a query that may attend to nothing, would be NaN.
    return tf.where(mask, tf.nn.softmax(tf.where(mask, scores, scores.dtype.min)), 0.0)
