"""Duplicates: examples that a split shares with another, or with itself, exactly or nearly.

Images are compared by the cosine of their mean-free thumbnails of `THUMBNAIL` pixels a side, mirrored, too; series by
the correlation of their standardized values, in place and shifted. Matrix products do the work: all pairs are looked
at.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from loops.data.dataset import Dataset, Split

THUMBNAIL = 16
NEAR = {"images": 0.93, "series": 0.999}  # a pair at or above it is near
ROWS = 512  # examples at a time: their products with 50,000 others take 100 MB


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two examples that look alike.

    Attributes:
        first, second: their places in their splits.
        likeness: cosine or correlation, 1 for equal ones.
        same_label: whether both are of one class; if not, one of two labels is wrong, or neither is right.
        exact: whether every stored value is equal.
        shift: by how many values the second series is moved to fit; 0 of images.
        mirrored: whether one image is the other's mirror image.
    """

    first: int
    second: int
    likeness: float
    same_label: bool
    exact: bool = False
    shift: int = 0
    mirrored: bool = False


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Of each example that has one, the pair with the most alike other: of test in train, and within train and test."""

    across: list[Pair]  # first: of test, second: of train
    train: list[Pair]
    test: list[Pair]
    limit: float

    def affected(self) -> np.ndarray:
        """Return the places of test examples that have a duplicate in train."""
        return np.array(sorted(pair.first for pair in self.across), np.int64)


def find(dataset: Dataset, *, limit: float | None = None) -> Duplicates:
    """Return the duplicates of a set; `limit`: from which likeness on (default: `NEAR`).

    Raises:
        ValueError: for a limit outside of (0, 1].
    """
    images = dataset.train.inputs.ndim == 4
    limit = NEAR["images" if images else "series"] if limit is None else limit
    if not 0 < limit <= 1:
        raise ValueError(f"the likeness of near duplicates must lie above 0 and at most at 1, got {limit}")
    splits = (dataset.train, dataset.test)
    train, test = (_directions(split.inputs) for split in splits)
    mirrored = [_directions(split.inputs[:, :, ::-1]) for split in splits] if images else None

    def pairs(one: Split, other: Split, a: np.ndarray, b: np.ndarray, mirror: np.ndarray | None) -> list[Pair]:
        within = one is other
        best = list(_nearest(a, b, limit, within=within))
        if mirror is not None:
            best += [dataclasses.replace(pair, mirrored=True) for pair in _nearest(a, mirror, limit, within=within)]
        if not images:
            best += _shifted(a, b, limit, within=within)
        return _judged(best, one, other)

    mirror_train, mirror_test = mirrored or (None, None)
    return Duplicates(
        across=pairs(dataset.test, dataset.train, test, train, mirror_train),
        train=pairs(dataset.train, dataset.train, train, train, mirror_train),
        test=pairs(dataset.test, dataset.test, test, test, mirror_test),
        limit=limit,
    )


def _directions(inputs: np.ndarray) -> np.ndarray:
    """Inputs (n, ...) -> (n, d) float32 of length 1 and mean 0; zeros for what is constant."""
    if inputs.ndim == 4:
        count, height, width, channels = inputs.shape
        rows, columns = height // THUMBNAIL, width // THUMBNAIL
        cut = inputs[:, : rows * THUMBNAIL, : columns * THUMBNAIL].astype(np.float32)
        values = cut.reshape(count, THUMBNAIL, rows, THUMBNAIL, columns, channels).mean(axis=(2, 4))
        values = values.reshape(count, -1)
    else:
        values = inputs.reshape(len(inputs), -1).astype(np.float32)
    values = values - values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, norms, out=np.zeros_like(values), where=norms > 1e-6)


def _nearest(a: np.ndarray, b: np.ndarray, limit: float, *, within: bool) -> Iterator[Pair]:
    """Of each row of `a`, the row of `b` that is most alike, if it is so by `limit`; `within`: each pair once."""
    for begin in range(0, len(a), ROWS):
        rows = a[begin : begin + ROWS]
        likeness = rows @ (b[: begin + len(rows)] if within else b).T
        if within:  # with those before it alone
            likeness[:, begin:][np.triu_indices(len(rows))] = -1
        nearest = likeness.argmax(axis=1)
        for row in np.flatnonzero(likeness[np.arange(len(likeness)), nearest] >= limit):
            yield Pair(begin + int(row), int(nearest[row]), float(likeness[row, nearest[row]]), same_label=False)


def _shifted(a: np.ndarray, b: np.ndarray, limit: float, *, within: bool) -> list[Pair]:
    """As `_nearest`, of series that are the same but for where they begin: of circular shifts the best."""
    length = a.shape[1]
    there, others = np.fft.rfft(a), np.conj(np.fft.rfft(b))
    found = []
    for row, spectrum in enumerate(there):
        end = row if within else len(b)
        if not end:
            continue
        likeness = np.fft.irfft(spectrum * others[:end], n=length)  # (end, T): of each shift
        best = int(likeness.argmax())
        second, shift = divmod(best, length)
        if likeness[second, shift] >= limit:
            shift = shift if shift <= length // 2 else shift - length
            found.append(Pair(row, second, float(likeness[second, shift]), same_label=False, shift=shift))
    return found


def _judged(pairs: list[Pair], one: Split, other: Split) -> list[Pair]:
    """Of each first example the best pair, with what its labels and values say; the most alike first."""
    best: dict[int, Pair] = {}
    for pair in pairs:
        if pair.first not in best or pair.likeness > best[pair.first].likeness + 1e-6:
            best[pair.first] = pair
    return sorted(
        (
            dataclasses.replace(
                pair,
                likeness=min(pair.likeness, 1.0),
                same_label=bool(one.labels[pair.first] == other.labels[pair.second]),
                exact=np.array_equal(one.inputs[pair.first], other.inputs[pair.second]),
            )
            for pair in best.values()
        ),
        key=lambda pair: (-pair.likeness, pair.first),
    )
