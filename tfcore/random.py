"""Keys: every random number is a pure function of (seed, step, site), and of the example that it is for.

Of the ambient (`tfcore.context`) only how the numbers are drawn depends, never which they are.

A key is an int32 tensor of shape (2,). A run makes one from its seed, folds in the step, and each random layer folds
in its own site number, so that a mask can be computed again anywhere: in the backward pass, after a restart, on
another device.

Masks come from raw uint32 bits of the Philox generator compared with an integer threshold. Those are equal bit for
bit in eager, graph and XLA mode; TensorFlow's random *floats* are not (compilers may fuse the scaling differently).
"""

import tensorflow as tf

from tfcore.context import current_share, is_xla, number

ALGORITHM = "philox"  # the only generator that gives the same bits with and without XLA


def make_key(seed: int | tf.Tensor) -> tf.Tensor:
    """Return the key (2,) int32 of a seed in -2^31 .. 2^31-1."""
    return tf.stack([tf.constant(0, tf.int32), tf.cast(seed, tf.int32)])


def fold_in(key: tf.Tensor, data: int | tf.Tensor) -> tf.Tensor:
    """Return a new key (2,) that depends on `key` and on the integer `data` (a step, a site, an iteration)."""
    return tf.random.fold_in(key, tf.cast(data, tf.int32), alg=ALGORITHM)


def bits(key: tf.Tensor, shape) -> tf.Tensor:
    """Return uniform uint32 bits of the given shape; equal in eager, graph and XLA mode.

    Where replicas divide a batch, the first axis is the examples, and each has the bits that it has in the whole batch.
    """
    return _of_whole_batch(shape, lambda count: _draw(key, count))


def _of_whole_batch(shape, draw) -> tf.Tensor:
    """draw(count) -> (count,), as numbers of a shape of which replicas may have a share."""
    share, shape = current_share(), tf.convert_to_tensor(shape)
    if share is None:
        return tf.reshape(draw(tf.reduce_prod(shape)), shape)
    # All are drawn and some kept: a generator that is set forward gives other bits under XLA than without it.
    shape = tf.concat([[share.total], shape[1:]], axis=0)
    return tf.reshape(draw(tf.reduce_prod(shape)), shape)[share.start : share.start + share.size]


def _draw(key: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """(count,) uint32.

    XLA makes one function of all draws of a size. As it does not know where each starts to count, it draws 5 to 10
    times slower than a single draw, which is known to start at 0: 2.4 million numbers in 20 to 40 ms against 3.6 (2
    cores of an AMD EPYC). So each has a size of its own there: the first bits of a longer draw are those of a shorter.
    """
    drawn = count + 4 * number() if is_xla() else count  # the generator makes four at a time
    all_bits = tf.random.stateless_uniform([drawn], key, minval=None, maxval=None, dtype=tf.uint32, alg=ALGORITHM)
    return all_bits[:count]


def integers(key: tf.Tensor, shape, low: int, high: int) -> tf.Tensor:
    """Return int32 numbers in low .. high, both included; each equally likely, to (high − low + 1) / 2^32."""
    count = tf.constant(high - low + 1, tf.uint32)
    return low + tf.cast(tf.math.floormod(bits(key, shape), count), tf.int32)


def keep_mask(key: tf.Tensor, shape, rate: float) -> tf.Tensor:
    """Return a boolean mask that is False with probability `rate` (to 2^-16), for 0 <= rate < 1.

    Each half of 32 bits decides one place: drawing them is what dropout costs.
    """

    def halves(count: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.bitcast(_draw(key, (count + 1) // 2), tf.uint16), [-1])[:count]

    return _of_whole_batch(shape, halves) >= tf.constant(min(round(rate * 2**16), 2**16 - 1), tf.uint16)


def uniform(key: tf.Tensor, shape, low: float, high: float, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Return float32 numbers uniform in [low, high), cast to `dtype` (so that all dtypes start from equal values)."""
    # The top 24 bits fit float32's significand exactly: no rounding, hence never `high` itself from the conversion.
    unit = tf.cast(tf.bitwise.right_shift(bits(key, shape), tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24
    return tf.cast(low + (high - low) * unit, dtype)
