"""Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2.1), in two formulations.

Each has a gradient of its own and a file of its own. `tfcore.ops.attention_folded` is a third one, of multi-head
attention as a whole: it multiplies the projections out.

Glossary: B batch, N heads, T query positions, S key positions, d head width (e of the values), b keys in a block.

Softmax runs in float32 at least. A query that may attend to no key (a row of the mask that is all False) gets zeros, in
the output and in every gradient, not NaN.
"""

import tensorflow as tf

from tfcore.ops.attention_chunked import attend_chunked
from tfcore.ops.attention_direct import attend_direct, softmax_weights
from tfcore.ops.parameters import multiply_parameter

FORMULATIONS = {"direct": attend_direct, "chunked": attend_chunked}


def attend(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    *,
    scale: float | tf.Tensor,
    mask: tf.Tensor | None = None,
    dropout_rate: float = 0.0,
    dropout_key: tf.Tensor | None = None,
    formulation: str = "direct",
) -> tf.Tensor:
    """softmax(scale · Q Kᵀ) V: (B, N, T, d), (B, N, S, d), (B, N, S, e) -> (B, N, T, e) (equation 1).

    Args:
        scale: factor of the scores, usually 1/√d; a tensor () receives its gradient.
        mask: bool, broadcastable to (B, N, T, S); True where a query may attend to a key.
        dropout_rate: share of the weights set to zero after the softmax (0 in inference).
        dropout_key: (2,) key of the mask; needed where the rate is above 0.
        formulation: "direct" holds all T × S weights (the one to study), "chunked" never more than T × 128 of them.

    Raises:
        ValueError: for a mask that does not fit, a rate outside [0, 1), a rate without a key, an unknown formulation.
    """
    _check(query, key, value, mask, dropout_rate, dropout_key)
    if formulation not in FORMULATIONS:
        raise ValueError(f"formulation must be one of {', '.join(FORMULATIONS)}, got {formulation!r}")
    query = _scaled(query, scale)  # (B, N, T, d): T·d products instead of T·S
    return FORMULATIONS[formulation](query, key, value, mask, dropout_rate, dropout_key)


def attention_weights(
    query: tf.Tensor, key: tf.Tensor, *, scale: float | tf.Tensor, mask: tf.Tensor | None = None
) -> tf.Tensor:
    """softmax(scale · Q Kᵀ): (B, N, T, d), (B, N, S, d) -> (B, N, T, S), before dropout; rows sum to 1 (masked: 0)."""
    _check(query, key, key, mask, 0.0, None)
    return softmax_weights(_scaled(query, scale), key, mask)


def _scaled(query, scale):
    return multiply_parameter(query, scale) if tf.is_tensor(scale) else query * tf.cast(scale, query.dtype)


def _check(query, key, value, mask, dropout_rate, dropout_key) -> None:
    if not query.shape.rank == key.shape.rank == value.shape.rank == 4:
        raise ValueError(
            "query, key and value must be (B, N, positions, width), got ranks "
            f"{query.shape.rank}, {key.shape.rank} and {value.shape.rank}"
        )
    if query.shape[3] != key.shape[3] or key.shape[2] != value.shape[2]:
        raise ValueError(
            "query and key must have one width, key and value one number of positions, got "
            f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
        )
    check_weights((*query.shape[:3], key.shape[2]), mask, dropout_rate, dropout_key)


def check_weights(
    full: tuple[int | None, ...], mask: tf.Tensor | None, dropout_rate: float, dropout_key: tf.Tensor | None
) -> None:
    """Refuse, with a ValueError, a mask or a dropout that does not fit weights of shape `full` (B, N, T, S)."""
    if mask is not None:
        fits = mask.shape.rank == 4 and all(
            m is None or f is None or m in (1, f) for m, f in zip(mask.shape, full, strict=True)
        )
        if mask.dtype != tf.bool or not fits:
            raise ValueError(
                f"mask must be bool and broadcast to (B, N, T, S) = {full}, got {mask.dtype.name} {tuple(mask.shape)}"
            )
    if not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate must be at least 0 and below 1, got {dropout_rate}")
    if dropout_rate > 0 and dropout_key is None:
        raise ValueError("attention dropout needs a dropout_key, such as tfcore.random.make_key(seed)")
