"""What a model must beat to be worth its training."""

import numpy as np

from loops.data.dataset import Split

ROWS = 256  # test examples at a time: distances to all train examples fit in memory


def nearest_neighbour(train: Split, test: Split) -> float:
    """Return the test accuracy of the nearest train example by Euclidean distance; of equally near ones the first."""
    known = train.inputs.reshape(len(train), -1).astype(np.float64)  # (n, features)
    squares = np.sum(known**2, axis=1)  # (n,)
    right = 0
    for begin in range(0, len(test), ROWS):
        asked = test.inputs[begin : begin + ROWS].reshape(-1, known.shape[1]).astype(np.float64)
        # |a − k|² less |a|², which is the same for every k.
        nearest = np.argmin(squares - 2 * asked @ known.T, axis=1)  # (rows, n) -> (rows,)
        right += int(np.sum(train.labels[nearest] == test.labels[begin : begin + ROWS]))
    return right / len(test)
