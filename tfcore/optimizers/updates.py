"""The papers' update rules as pure functions of one parameter's tensors, line by line with the papers' names."""

import tensorflow as tf


def adam(
    gradient: tf.Tensor,
    m: tf.Tensor,
    v: tf.Tensor,
    *,
    t: tf.Tensor,
    alpha: tf.Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1 in the faster order of section 2).

        m ← β₁·m + (1 − β₁)·g            v ← β₂·v + (1 − β₂)·g²
        α_t = α · √(1 − β₂ᵗ) / (1 − β₁ᵗ)     Δθ = −α_t · m / (√v + ε̂)

    ε̂ stands outside the bias correction, as in the paper's section 2 and in Keras; algorithm 1's own ε is
    ε̂ / √(1 − β₂ᵗ).

    Args:
        gradient, m, v: tensors of the parameter's shape; m and v start at zero.
        t: () number of this step, from 1.
        alpha: () step size.

    Returns:
        (Δθ, m, v)
    """
    t = tf.cast(t, gradient.dtype)
    m = m + (1.0 - beta_1) * (gradient - m)
    v = v + (1.0 - beta_2) * (tf.square(gradient) - v)
    # Constants of g's own dtype: tf.pow and tf.cast would round a Python number to float32 first.
    bias_1 = 1.0 - tf.pow(tf.constant(beta_1, gradient.dtype), t)
    bias_2 = 1.0 - tf.pow(tf.constant(beta_2, gradient.dtype), t)
    alpha_t = alpha * tf.sqrt(bias_2) / bias_1
    return -alpha_t * m / (tf.sqrt(v) + epsilon), m, v
