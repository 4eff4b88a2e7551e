"""A small data set and recipe for tests of the loop and the scripts: seconds, not minutes."""

import dataclasses

import numpy as np

from loops.data import sample
from loops.data.dataset import Dataset, Split


def tiny_dataset(train: int = 70, test: int = 23) -> Dataset:
    """The sample set of ten kinds, `shortened`."""
    return shortened(sample.images(10), train, test)


def shortened(whole: Dataset, train: int = 70, test: int = 23) -> Dataset:
    """A set cut short; 70 and 23 leave a smaller last batch for every batch size used in tests."""
    return dataclasses.replace(whole, train=_first(whole.train, train), test=_first(whole.test, test))


def _first(split: Split, count: int) -> Split:
    return Split(np.ascontiguousarray(split.inputs[:count]), split.labels[:count])
