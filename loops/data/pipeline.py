"""Batches as a pure function of (seed, epoch, position): a checkpoint needs no iterator state to go on exactly."""

from collections.abc import Iterator

import numpy as np

from loops.data.dataset import DataError, Split


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Number of batches in an epoch, the last smaller one included.

    Raises:
        DataError: if a batch is larger than the split.
    """
    if batch_size > len(split):
        raise DataError(
            f"batch_size {batch_size} is larger than the {len(split)} examples: use --batch-size {len(split)}"
        )
    return -(-len(split) // batch_size)


def train_batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (inputs, labels) of one epoch (from 0) in the order that (seed, epoch) decides, from batch `start` on."""
    # SeedSequence takes no negative numbers; the seed's 32 bits as an unsigned number keep seeds distinct.
    order = np.random.default_rng((seed % 2**32, epoch)).permutation(len(split))
    for begin in range(start * batch_size, len(split), batch_size):
        chosen = order[begin : begin + batch_size]
        yield split.inputs[chosen], split.labels[chosen]


def evaluation_batches(split: Split, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (inputs, labels) in stored order; the last batch may be smaller."""
    for begin in range(0, len(split), batch_size):
        yield split.inputs[begin : begin + batch_size], split.labels[begin : begin + batch_size]
