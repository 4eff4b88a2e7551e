"""Multi-head attention with its projections multiplied out. Glossary as in `tfcore.ops.attention`; C, D, E widths."""

import tensorflow as tf

from tfcore.ops.attention import check_weights
from tfcore.ops.attention_direct import mix
from tfcore.ops.attention_dropout import keep_all
from tfcore.ops.linear import linear

Projection = tuple[tf.Tensor, tf.Tensor]  # kernel, bias


def attend_folded(
    x: tf.Tensor,
    context: tf.Tensor,
    *,
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    scale: float,
    mask: tf.Tensor | None = None,
    dropout_rate: float = 0.0,
    dropout_key: tf.Tensor | None = None,
) -> tf.Tensor:
    """Multi-head attention without queries, keys and values of its own: x (B, T, C), context (B, S, D) -> (B, T, E).

    With P the weights after dropout, and the projections' (kernel, bias) given as they are, per head:

        scores  (x W_q + b_q)(c W_k + b_k)ᵀ = (x A + u) cᵀ + r 1ᵀ      A = W_q W_kᵀ (C × D)     u = b_q W_kᵀ (D)
        output  P (c W_v + 1 b_v) W_o = (P c) M + (P 1) m              M = W_v W_o (D × E)      m = b_v W_o (E)

    r, one number a query, changes no weight and is left out, and the keys' bias with it: its gradient is zero, here it
    has none. P 1 is 1 but for dropout and for queries that may attend to no key; then a column of ones beside c gives
    it. All heads read the same c, so they stand side by side in the rows, (B, T·N, D) x (B, S, D), and no axis is
    moved. The scale and dropout's factor are in A and M. Exact; when it is cheaper says `multiplications`.

    Args:
        query, key, value: kernels (C, N, d), (D, N, d), (D, N, d), biases (N, d).
        output: kernel (N, d, E), bias (E,).
        scale, mask, dropout_rate, dropout_key: as in `attend`.

    Raises:
        ValueError: as `attend`, for the mask and the dropout.
        NotImplementedError: for the gradient of a gradient.
    """
    (heads, _), positions, width = query[1].shape, x.shape[1], context.shape[2]
    check_weights((x.shape[0], heads, positions, context.shape[1]), mask, dropout_rate, dropout_key)
    kept = None
    if dropout_rate > 0:
        rows = tf.stack([tf.shape(x)[0], heads, positions])
        kept = keep_all(dropout_key, rows, context.shape[1], dropout_rate)  # (B, N, T, S)
    a = tf.einsum("cnh,dnh->cnd", query[0], key[0]) * tf.cast(scale, x.dtype)  # (C, N, d) x (D, N, d) -> (C, N, D)
    u = tf.einsum("nh,dnh->nd", query[1], key[0]) * tf.cast(scale, x.dtype)  # (N, d) x (D, N, d) -> (N, D)
    queries = linear(x, tf.reshape(a, [a.shape[0], -1]), tf.reshape(u, [-1]))  # (B, T, C) -> (B, T, N·D)
    queries = tf.reshape(queries, [-1, 1, positions * heads, width])  # (B, 1, T·N, D)
    sums_to_one = kept is None and mask is None
    columns = context if sums_to_one else tf.concat([context, tf.ones_like(context[..., :1])], axis=-1)  # (B, S, D + 1)
    mixed = mix(
        queries,
        context[:, None],
        columns[:, None],
        mask=_in_rows(mask, heads, positions),
        kept=_in_rows(kept, heads, positions),
    )  # (B, 1, T·N, D) or (B, 1, T·N, D + 1)
    m = tf.einsum("dnh,nhe->nde", value[0], output[0])  # (D, N, d) x (N, d, E) -> (N, D, E)
    own = tf.einsum("nh,nhe->ne", value[1], output[0])  # (N, d) x (N, d, E) -> (N, E)
    bias = output[1]
    if sums_to_one:
        bias = bias + tf.reduce_sum(own, axis=0)  # it may be a variable, to which += would mean something else
    else:
        m = tf.concat([m, own[:, None]], axis=1) * tf.constant(1.0 / (1.0 - dropout_rate), x.dtype)  # (N, D + 1, E)
    mixed = tf.reshape(mixed, [-1, positions, heads * m.shape[1]])  # (B, T, N·(D + 1))
    return linear(mixed, tf.reshape(m, [-1, m.shape[2]]), bias)  # (B, T, E)


def multiplications(
    *, batch: int, queries: int, keys: int, heads: int, head_width: int, width: int, context_width: int
) -> dict[str, int]:
    """Return the multiplications of one forward pass by formulation; the backward pass has twice as many.

    With E = C (`width`), and the column of ones counted:

        direct  B·N·(2·T·C·d + 2·S·D·d + 2·T·S·d)
        folded  B·N·(T·C·D + T·(D + 1)·C + T·S·(2·D + 1)) + 2·N·C·D·d

    The last term, the product of the weights, is paid once a batch. At one width, C = D = d and T = S, a head has two
    products of T × C × C in the folded form where it has four in the direct one.
    """
    b, t, s, n, d, c, w = batch, queries, keys, heads, head_width, width, context_width
    return {
        "direct": b * n * (2 * t * c * d + 2 * s * w * d + 2 * t * s * d),
        "folded": b * n * (t * c * w + t * (w + 1) * c + t * s * (2 * w + 1)) + 2 * n * c * w * d,
    }


def _in_rows(mask, heads, positions):
    """(B or 1, N or 1, T or 1, S or 1) -> (B or 1, 1, T·N, S or 1), ordered as the rows of all heads are."""
    if mask is None:
        return None
    batch, keys = tf.shape(mask)[0], mask.shape[3]
    mask = tf.broadcast_to(mask, tf.stack([batch, heads, positions, keys]))
    return tf.reshape(tf.transpose(mask, [0, 2, 1, 3]), [-1, 1, positions * heads, keys])  # (B, N, T, S): T before N
