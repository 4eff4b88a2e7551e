"""The dropout of attention's weights, drawn alike in all formulations. Glossary as in `tfcore.ops.attention`."""

import tensorflow as tf

from tfcore import random

# Most keys in a block: the unit in which `chunked` works and in which dropout masks are drawn, so that all
# formulations drop the same weights. Large enough for the matrix products to run at full speed.
BLOCK = 128


def blocks_of(positions: int) -> tuple[int, int]:
    """Return (how many blocks of one size cover all keys, that size): at most BLOCK, few keys too many."""
    count = max(-(-positions // BLOCK), 1)
    return count, -(-positions // count)


def keep_block(key: tf.Tensor, block: int | tf.Tensor, rows: tf.Tensor, size: int, rate: float) -> tf.Tensor:
    """The mask (B, N, T, b) of one block of keys; `rows` (3,) is (B, N, T). A function of key and position alone."""
    return random.keep_mask(random.fold_in(key, block), tf.concat([rows, [size]], axis=0), rate)


def keep_all(key: tf.Tensor, rows: tf.Tensor, positions: int, rate: float) -> tf.Tensor:
    """The masks of all blocks side by side: (B, N, T, S), False for the weights that are dropped."""
    count, size = blocks_of(positions)
    masks = [keep_block(key, block, rows, size, rate) for block in range(count)]
    return (masks[0] if count == 1 else tf.concat(masks, axis=3))[..., :positions]
