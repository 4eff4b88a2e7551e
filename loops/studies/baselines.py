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


def autoregressive_ridge(train: Split, test: Split, order: int = 20, penalty: float = 0.01) -> float:
    """Return the test accuracy of a ridge regression on how each series predicts itself.

    Its features are the `order` coefficients of the least-squares prediction of a value from those before it, and the
    logarithm of the error that is left (Box and Jenkins 1970, chapter 7); each is standardized, and the classes are
    the targets, one column each. `penalty` stands beside the sum of squared errors.
    """
    known, asked = (_autoregression(split.inputs[..., 0], order) for split in (train, test))
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-12
    known, asked = ((features - mean) / spread for features in (known, asked))
    targets = np.eye(int(train.labels.max()) + 1)[train.labels]  # (n, classes)
    centre = targets.mean(axis=0)
    weights = np.linalg.solve(known.T @ known + penalty * np.eye(known.shape[1]), known.T @ (targets - centre))
    return float(np.mean((asked @ weights + centre).argmax(axis=1) == test.labels))


def _autoregression(values: np.ndarray, order: int) -> np.ndarray:
    """(n, T) -> (n, order + 1): coefficients of the value 1, 2, ... before, and the log of the mean squared error."""
    features = np.empty([len(values), order + 1])
    for row, series in zip(features, values.astype(np.float64), strict=True):
        before = np.lib.stride_tricks.sliding_window_view(series[:-1], order)[:, ::-1]  # (T - order, order)
        after = series[order:]
        row[:order] = np.linalg.lstsq(before, after, rcond=None)[0]
        row[order] = np.log(np.mean((after - before @ row[:order]) ** 2) + 1e-12)
    return features
