"""Attention that never holds a T × S matrix, forward or backward. Glossary as in `tfcore.ops.attention`."""

import tensorflow as tf

from tfcore.ops.attention_dropout import blocks_of, keep_block
from tfcore.ops.gradients import first_order
from tfcore.precision import statistics_dtype


def attend_chunked(query, key, value, mask, dropout_rate, dropout_key) -> tf.Tensor:
    """Attention over blocks of keys with a running softmax (Milakov and Gimelshein 2018; Rabe and Staats 2021).

    With m the running maximum of the scores s, l the running sum of exp(s − m) and y the running output:

        m' = max(m, max s)      l' = l·exp(m − m') + Σ exp(s − m')      y' = y·exp(m − m') + exp(s − m') V

    The backward pass computes each block's weights P = exp(s − m − log l) again (Dao et al. 2022, appendix B.2):

        ∂V = Pᵀ ∂Y      ∂P = ∂Y Vᵀ      ∂S = P ∘ (∂P − rowsum(∂Y ∘ Y))      ∂Q = ∂S K      ∂K = ∂Sᵀ Q

    Dropout multiplies P in Y, ∂V and ∂P by the block's mask, which is drawn again, not stored.
    """
    high = statistics_dtype(query.dtype)
    size, (count, block_size) = key.shape[2], blocks_of(key.shape[2])
    if count * block_size > size:
        key, value, mask = _filled_up(key, value, mask, count * block_size)

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
        kept = keep_block(dropout_key, block, tf.shape(query)[:3], block_size, dropout_rate)  # (B, N, T, b)
        return tf.where(kept, weights / (1.0 - dropout_rate), 0.0)

    @tf.custom_gradient
    def run(query, key, value):
        # In eager mode an outer tape would record what happens in here, and keep every block for it.
        inputs = tuple(map(tf.stop_gradient, (query, key, value)))
        output, log_sum = forward(*inputs)

        def gradient(upstream):
            return first_order(backward, upstream, *inputs, output, log_sum, of="attention")

        return tf.cast(output, value.dtype), gradient

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

    def backward(upstream, query, key, value, output, log_sum):
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


def _filled_up(key, value, mask, size):
    """Keys, values and mask, the last block filled up to `size` keys in all by keys that nobody may attend to."""
    surplus = size - key.shape[2]
    real = tf.reshape(tf.range(size) < key.shape[2], [1, 1, 1, -1])
    if mask is not None:
        real &= tf.pad(mask, [[0, 0], [0, 0], [0, 0], [0, surplus]]) if mask.shape[3] > 1 else mask
    return *(tf.pad(x, [[0, 0], [0, 0], [0, surplus], [0, 0]]) for x in (key, value)), real


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


def _finite(x):
    """−∞, the maximum over no key at all, becomes 0: exp(−∞ − 0) = 0, where exp(−∞ − (−∞)) would be NaN."""
    return tf.where(tf.math.is_inf(x), tf.zeros([], x.dtype), x)
