"""What a model does between its modules, told by the numbers: a pooling, a sum of two branches, a mean, a reshape.

Such operations are no modules and cannot be watched. A tensor that equals, to the bit, what one of them makes of the
tensors before it is named after that; anything else stays unnamed.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

LATEST = 14  # tensors looked at, and those with which the modules around were called


def recognise(tensor: tf.Tensor, before: Sequence[tuple[str, tf.Tensor]]) -> tuple[str, tuple[str, ...], dict] | None:
    """Return (kind, names of the tensors it was made from, settings), or None; `before`: the candidates, latest last.

    Kinds: "reshape", "max pool" (settings: size), "mean", "sum", "copy".
    """
    for name, source in reversed(before):
        if (found := _of_one(tensor, source)) is not None:
            kind, settings = found
            return kind, (name,), settings
    for (first, a), (second, b) in itertools.combinations(before, 2):
        if _sums_to(tensor, a, b):
            return "sum", (first, second), {}
    # Last: what a branch of zeros is added to, is a sum in which one side is a copy.
    copied = next((name for name, source in reversed(before) if _equal(source, tensor)), None)
    return None if copied is None else ("copy", (copied,), {})


def _of_one(tensor: tf.Tensor, source: tf.Tensor) -> tuple[str, dict] | None:
    count, other = int(tf.size(tensor)), int(tf.size(source))
    if count == other:
        reshaped = source.shape != tensor.shape and _equal(tf.reshape(source, [-1]), tf.reshape(tensor, [-1]))
        return ("reshape", {}) if reshaped else None
    if source.shape.rank == 4 and tensor.shape.rank == 4:
        size = source.shape[1] // max(tensor.shape[1], 1)
        sides = [size * side for side in tensor.shape[1:3]]
        tiled = size > 1 and sides == source.shape[1:3] and source.shape[3] == tensor.shape[3]
        if tiled and _equal(tf.nn.max_pool2d(source, size, size, "VALID"), tensor):
            return "max pool", {"size": size}
    flat = tensor.shape.rank == 2 and source.shape.rank in (3, 4) and source.shape[-1] == tensor.shape[-1]
    if flat and _equal(tf.reduce_mean(source, list(range(1, source.shape.rank - 1))), tensor):
        return "mean", {}
    return None


def _sums_to(tensor: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> bool:
    width = tensor.shape.rank
    shapes = [shape.shape[max(shape.shape.rank - width, 0) :] for shape in (a, b)]
    whole = [tuple(shape) for shape in shapes]
    if tuple(tensor.shape) not in whole or not all(_ends(tuple(tensor.shape), shape) for shape in whole):
        return False
    # A few places first: most pairs part there.
    return a.dtype == b.dtype and _equal(a + b, tensor)


def _ends(shape: tuple, other: tuple) -> bool:
    """Whether an array of shape `other` can be added to each of the leading axes of one of `shape`."""
    return not other or shape[-len(other) :] == other


def _equal(a: tf.Tensor, b: tf.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a.numpy(), b.numpy(), equal_nan=True)
