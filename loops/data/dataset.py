"""What every reader returns: two splits of arrays in memory, and the names of the classes."""

import dataclasses

import numpy as np

IMAGE_SIZE = 32  # pixels a side, of every image set here


class DataError(ValueError):
    """A data file or folder that cannot be used; the message says what, where and what to do."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Inputs (n, ...) as stored (uint8 pixels, float series) and labels (n,) int32 in 0 .. classes-1."""

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a model must know of its data: the shape of one input, (H, W, 3) or (T, 1), and the number of classes."""

    input_shape: tuple[int, ...]
    classes: int

    @property
    def input_dtype(self) -> np.dtype:
        """The dtype in which inputs are stored: uint8 of pixels, float32 of series."""
        return np.dtype(np.uint8 if len(self.input_shape) == 3 else np.float32)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A named data set in memory; `source` says in words where it came from.

    `repairs` counts what the reader made of missing values and unequal lengths, where it was asked to.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    repairs: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def sizes(self) -> Sizes:
        """The sizes that a model for this data must have."""
        return Sizes(tuple(self.train.inputs.shape[1:]), len(self.class_names))
