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


def first(split: Split, examples: int) -> Split:
    """Return the first `examples` of a split.

    Raises:
        DataError: for more examples than there are.
    """
    if examples > len(split):
        raise DataError(f"train_examples is {examples}, but there are {len(split)}: ask for at most as many")
    return Split(split.inputs[:examples], split.labels[:examples])


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """Return (train, validation): the last `share` of the split validates.

    Raises:
        DataError: for a share that leaves one side empty.
    """
    kept = int(len(split) * (1 - share))  # rounded down, as Keras's validation_split: 2,880 of FordA's 3,601
    if not 0 < kept < len(split):
        raise DataError(f"validation {share} of {len(split)} examples leaves one side empty: choose, say, 0.1")
    return first(split, kept), Split(split.inputs[kept:], split.labels[kept:])


def shuffled(split: Split, seed: int) -> Split:
    """Return a split in an order that the seed alone decides."""
    order = np.random.default_rng((seed % 2**32, 0, 1)).permutation(len(split))  # apart from the epochs' (seed, epoch)
    return Split(split.inputs[order], split.labels[order])


def check(split: Split, classes: int) -> None:
    """Refuse what would poison a training: labels out of range, numbers that are none.

    Raises:
        DataError: naming the first such example.
    """
    wrong = (split.labels < 0) | (split.labels >= classes)
    if wrong.any():
        index = int(wrong.argmax())
        raise DataError(f"example {index} has label {split.labels[index]}, expected 0 .. {classes - 1}: mend the data")
    if split.inputs.dtype.kind == "f":
        bad = ~np.isfinite(split.inputs).reshape(len(split), -1).all(axis=1)
        if bad.any():
            raise DataError(f"example {int(bad.argmax())} holds a NaN or an infinity: leave it out or mend it")


def train_places(
    examples: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    steps_per_call: int = 1,
    step: int = 0,
    pause: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield the places (k, B) in a split of the k batches after each other that one call trains on, for one epoch.

    The order is decided by (seed, epoch), from example `start` on. k is `steps_per_call`, but less before the epoch's
    last, smaller batch, which comes alone, and where `pause` divides the number of steps, so that a checkpoint can be
    written there; `step` of them come before the first one yielded.
    """
    # SeedSequence takes no negative numbers; the seed's 32 bits as an unsigned number keep seeds distinct.
    order = np.random.default_rng((seed % 2**32, epoch)).permutation(examples)
    while start < examples:
        steps = min(steps_per_call, (examples - start) // batch_size)
        if pause is not None:
            steps = min(steps, pause - step % pause)
        steps = max(steps, 1)
        chosen = order[start : start + steps * batch_size]
        yield chosen.reshape(steps, -1)
        start, step = start + len(chosen), step + steps


def train_batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (inputs, labels) of one epoch (from 0) in the order that (seed, epoch) decides, from example `start` on."""
    for (chosen,) in train_places(len(split), batch_size, seed=seed, epoch=epoch, start=start):
        yield split.inputs[chosen], split.labels[chosen]


def evaluation_places(examples: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the places (B,) in a split, in stored order; the last batch may be smaller."""
    for begin in range(0, examples, batch_size):
        yield np.arange(begin, min(begin + batch_size, examples))


def evaluation_batches(split: Split, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (inputs, labels) in stored order; the last batch may be smaller."""
    for places in evaluation_places(len(split), batch_size):
        yield split.inputs[places], split.labels[places]
