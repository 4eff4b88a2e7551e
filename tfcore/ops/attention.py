"""Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2.1), in two formulations.

`attend_folded` is multi-head attention with its projections multiplied out, for inputs narrower than a head.

Glossary: B batch, N heads, T query positions, S key positions, d head width (e of the values), b keys in a block.

Softmax runs in float32 at least. A query that may attend to no key (a row of the mask that is all False) gets zeros, in
the output and in every gradient, not NaN.
"""

import tensorflow as tf

from tfcore import random
from tfcore.ops.parameters import add_parameter, multiply_parameter
from tfcore.precision import statistics_dtype

# Most keys in a block: the unit in which `chunked` works and in which dropout masks are drawn, so that both
# formulations drop the same weights. Large enough for the matrix products to run at full speed.
BLOCK = 128


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
    return _weights(_scaled(query, scale), key, mask)


def attend_direct(query, key, value, mask, dropout_rate, dropout_key) -> tf.Tensor:
    """Attention as the paper writes it, with the matrix of all weights."""
    weights = _weights(query, key, mask)  # (B, N, T, S)
    if dropout_rate > 0:
        count, size = _blocks(key)
        blocks = [_keep(dropout_key, block, query, size, dropout_rate) for block in range(count)]
        kept = tf.concat(blocks, axis=3)[:, :, :, : key.shape[2]]  # (B, N, T, S)
        weights = tf.where(kept, weights / (1.0 - dropout_rate), 0.0)  # (B, N, T, S)
    return tf.matmul(tf.cast(weights, value.dtype), value)  # (B, N, T, S) x (B, N, S, e) -> (B, N, T, e)


def attend_chunked(query, key, value, mask, dropout_rate, dropout_key) -> tf.Tensor:
    """Attention over blocks of keys with a running softmax (Milakov and Gimelshein 2018; Rabe and Staats 2021).

    With m the running maximum of the scores s, l the running sum of exp(s − m) and y the running output:

        m' = max(m, max s)      l' = l·exp(m − m') + Σ exp(s − m')      y' = y·exp(m − m') + exp(s − m') V

    The backward pass computes each block's weights P = exp(s − m − log l) again (Dao et al. 2022, appendix B.2):

        ∂V = Pᵀ ∂Y      ∂P = ∂Y Vᵀ      ∂S = P ∘ (∂P − rowsum(∂Y ∘ Y))      ∂Q = ∂S K      ∂K = ∂Sᵀ Q

    Dropout multiplies P in Y, ∂V and ∂P by the block's mask, which is drawn again, not stored.
    """
    high = statistics_dtype(query.dtype)
    size, (count, block_size) = key.shape[2], _blocks(key)
    surplus = count * block_size - size
    if surplus:  # the last block is filled up with keys that nobody may attend to
        key, value = (tf.pad(x, [[0, 0], [0, 0], [0, surplus], [0, 0]]) for x in (key, value))
        real = tf.reshape(tf.range(count * block_size) < size, [1, 1, 1, -1])
        if mask is None:
            mask = real  # (1, 1, 1, S)
        else:
            mask = (tf.pad(mask, [[0, 0], [0, 0], [0, 0], [0, surplus]]) if mask.shape[3] > 1 else mask) & real

    def keys_of(x, block):
        return _take_block(x, block, block_size, axis=2)  # (B, N, S, .) -> (B, N, b, .)

    def scores_of(query, keys, block):
        scores = tf.cast(tf.matmul(query, keys, transpose_b=True), high)  # (B, N, T, b)
        if mask is None:
            return scores
        allowed = mask if mask.shape[3] == 1 else _take_block(mask, block, block_size, axis=3)  # (B, N, T, b)
        return tf.where(allowed, scores, -float("inf"))

    def drop(weights, block):
        if dropout_rate == 0:
            return weights
        return tf.where(_keep(dropout_key, block, query, block_size, dropout_rate), weights / (1.0 - dropout_rate), 0.0)

    @tf.custom_gradient
    def run(query, key, value):
        # In eager mode an outer tape would record what happens in here, and keep every block for it.
        output, log_sum = forward(*map(tf.stop_gradient, (query, key, value)))
        return tf.cast(output, value.dtype), lambda upstream: backward(query, key, value, output, log_sum, upstream)

    def forward(query, key, value):
        def step(block, maximum, total, output):
            scores = scores_of(query, keys_of(key, block), block)  # (B, N, T, b)
            new = tf.maximum(maximum, tf.reduce_max(scores, axis=3, keepdims=True))  # (B, N, T, 1)
            weights = tf.exp(scores - _finite(new))  # (B, N, T, b)
            shrink = tf.exp(maximum - _finite(new))  # (B, N, T, 1)
            total = total * shrink + tf.reduce_sum(weights, axis=3, keepdims=True)
            part = tf.matmul(tf.cast(drop(weights, block), value.dtype), keys_of(value, block))  # (B, N, T, e)
            return block + 1, new, total, output * shrink + tf.cast(part, high)

        rows = tf.zeros_like(query[:, :, :, :1], high)  # (B, N, T, 1)
        output = tf.zeros(tf.concat([tf.shape(query)[:3], [value.shape[3]]], axis=0), high)  # (B, N, T, e)
        _, maximum, total, output = _loop(count, step, (0, rows - float("inf"), rows, output))
        return tf.math.divide_no_nan(output, total), _finite(maximum) + tf.math.log(total)  # (B, N, T, e or 1)

    def backward(query, key, value, output, log_sum, upstream):
        inner = tf.reduce_sum(tf.cast(upstream, high) * output, axis=3, keepdims=True)  # (B, N, T, 1)

        def step(block, grad_query, grads_key, grads_value):
            keys, values = keys_of(key, block), keys_of(value, block)  # (B, N, b, d), (B, N, b, e)
            weights = tf.exp(scores_of(query, keys, block) - _finite(log_sum))  # (B, N, T, b)
            part = tf.cast(drop(weights, block), value.dtype)  # (B, N, T, b)
            grad_values = tf.matmul(part, upstream, transpose_a=True)  # (B, N, b, e)
            grad_weights = tf.cast(tf.matmul(upstream, values, transpose_b=True), high)  # (B, N, T, b)
            grad_scores = tf.cast(weights * (drop(grad_weights, block) - inner), query.dtype)  # (B, N, T, b)
            grad_keys = tf.matmul(grad_scores, query, transpose_a=True)  # (B, N, b, d)
            grad_query += tf.matmul(grad_scores, keys)  # (B, N, T, d)
            return block + 1, grad_query, grads_key.write(block, grad_keys), grads_value.write(block, grad_values)

        grads = [
            tf.TensorArray(x.dtype, size=count, element_shape=[*x.shape[:2], block_size, x.shape[3]])
            for x in (key, value)
        ]
        _, grad_query, *grads = _loop(count, step, (0, tf.zeros_like(query), *grads))
        return grad_query, *(_join_blocks(array.stack()) for array in grads)

    return run(query, key, value)


def attend_folded(
    x: tf.Tensor,
    context: tf.Tensor,
    *,
    query: tuple[tf.Tensor, tf.Tensor],
    key: tuple[tf.Tensor, tf.Tensor],
    value: tuple[tf.Tensor, tf.Tensor],
    output: tuple[tf.Tensor, tf.Tensor],
    scale: float,
    mask: tf.Tensor | None = None,
    dropout_rate: float = 0.0,
    dropout_key: tf.Tensor | None = None,
) -> tf.Tensor:
    """Multi-head attention without the T × d queries, keys and values: x (B, T, C), context (B, S, D) -> (B, T, E).

    With P the weights after dropout, and the projections' (kernel, bias) given as they are, per head:

        scores  (x W_q + b_q)(c W_k + b_k)ᵀ = (x A + u) cᵀ + r 1ᵀ      A = W_q W_kᵀ (C × D)     u = b_q W_kᵀ (D)
        output  P (c W_v + 1 b_v) W_o = (P c) M + (P 1) m              M = W_v W_o (D × E)      m = b_v W_o (E)

    r, one number a query, changes no weight and is left out, and the keys' bias with it: its gradient is zero, here it
    has none. P 1 is 1 but for dropout and for queries that may attend to no key. Exact; cheaper where C, D < d.

    Args:
        query, key, value: kernels (C, N, d), (D, N, d), (D, N, d), biases (N, d).
        output: kernel (N, d, E), bias (E,).
        scale, mask, dropout_rate, dropout_key: as in `attend`.
    """
    a = tf.einsum("cnh,dnh->ncd", query[0], key[0])  # (C, N, d) x (D, N, d) -> (N, C, D)
    u = tf.einsum("nh,dnh->nd", query[1], key[0])  # (N, d) x (D, N, d) -> (N, D)
    folded_query = add_parameter(tf.einsum("btc,ncd->bntd", x, a), u[:, None, :])  # (B, T, C) -> (B, N, T, D)
    shared = context[:, None]  # (B, 1, S, D): all heads read the same keys and values
    sums_to_one = dropout_rate == 0 and mask is None
    values = shared if sums_to_one else tf.concat([shared, tf.ones_like(shared[..., :1])], axis=-1)  # (B, 1, S, D + 1)
    mixed = attend(
        folded_query, shared, values, scale=scale, mask=mask, dropout_rate=dropout_rate, dropout_key=dropout_key
    )  # (B, N, T, D) or (B, N, T, D + 1)
    m = tf.einsum("dnh,nhe->nde", value[0], output[0])  # (D, N, d) x (N, d, E) -> (N, D, E)
    bias = tf.einsum("nh,nhe->ne", value[1], output[0])  # (N, d) x (N, d, E) -> (N, E)
    if sums_to_one:
        return add_parameter(tf.einsum("bntd,nde->bte", mixed, m), tf.reduce_sum(bias, axis=0) + output[1])
    m = tf.concat([m, bias[:, None, :]], axis=1)  # (N, D + 1, E)
    return add_parameter(tf.einsum("bntd,nde->bte", mixed, m), output[1])  # (B, N, T, D + 1) -> (B, T, E)


def _scaled(query, scale):
    return multiply_parameter(query, scale) if tf.is_tensor(scale) else query * tf.cast(scale, query.dtype)


def _loop(count, step, state):
    """Run `step` `count` times: a loop and not a list, since a compiler sees no two blocks of it at once.

    Written out, XLA joins the products of one query with all blocks of keys into the very T × S matrix that is to be
    avoided, and TensorFlow's graph optimizer reuses the forward pass's scores in the backward pass, keeping them all.
    """
    if count == 1:
        return step(*state)
    return tf.while_loop(lambda block, *_: block < count, step, state, parallel_iterations=1, maximum_iterations=count)


def _take_block(x, block, block_size, axis):
    """Keys block · b to (block + 1) · b of an axis."""
    # A gather from the axis split in two: tf.slice at a computed place makes XLA pad every axis to twice its size.
    shape = tf.shape(x)
    split = tf.reshape(
        x, tf.concat([shape[:axis], [x.shape[axis] // block_size, block_size], shape[axis + 1 :]], axis=0)
    )
    return tf.gather(split, block, axis=axis)


def _join_blocks(blocks):
    """(S / b, B, N, b, d) -> (B, N, S, d)."""
    blocks = tf.transpose(blocks, [1, 2, 0, 3, 4])  # (B, N, S / b, b, d)
    shape = tf.shape(blocks)
    return tf.reshape(blocks, [shape[0], shape[1], -1, blocks.shape[4]])  # (B, N, S, d)


def _weights(query, key, mask):
    """softmax(Q Kᵀ) over the keys that the mask allows: (B, N, T, d), (B, N, S, d) -> (B, N, T, S)."""
    scores = tf.matmul(query, key, transpose_b=True)  # (B, N, T, d) x (B, N, S, d) -> (B, N, T, S)
    scores = tf.cast(scores, statistics_dtype(scores.dtype))
    if mask is not None:
        scores = tf.where(mask, scores, -float("inf"))
    # The shift changes no weight, so no gradient needs to flow through it.
    highest = tf.stop_gradient(tf.reduce_max(scores, axis=3, keepdims=True))  # (B, N, T, 1)
    exponentials = tf.exp(scores - _finite(highest))  # (B, N, T, S)
    total = tf.reduce_sum(exponentials, axis=3, keepdims=True)  # (B, N, T, 1)
    return exponentials * tf.math.reciprocal_no_nan(total)  # a row's one division, not S of them and of their gradients


def _finite(x):
    """−∞, the maximum over no key at all, becomes 0: exp(−∞ − 0) = 0, where exp(−∞ − (−∞)) would be NaN."""
    return tf.where(tf.math.is_inf(x), tf.zeros([], x.dtype), x)


def _blocks(key) -> tuple[int, int]:
    """(How many blocks of one size cover all keys, that size): at most BLOCK, and as few keys too many as can be."""
    count = max(-(-key.shape[2] // BLOCK), 1)
    return count, -(-key.shape[2] // count)


def _keep(dropout_key, block, query, size, rate):
    """The dropout mask (B, N, T, b) of one block of keys: a function of the key and the position alone."""
    shape = tf.concat([tf.shape(query)[:3], [size]], axis=0)
    return random.keep_mask(random.fold_in(dropout_key, block), shape, rate)


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
    if mask is not None:
        full = (*query.shape[:3], key.shape[2])
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


FORMULATIONS = {"direct": attend_direct, "chunked": attend_chunked}
