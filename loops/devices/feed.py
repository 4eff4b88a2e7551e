"""Batches on their way to the device that computes."""

import numpy as np
import tensorflow as tf

from loops.data.dataset import Split
from loops.devices.distribution import ONE_DEVICE, Devices
from tfcore.context import is_gpu


class Feed:
    """A split, of which examples are taken by their places.

    Where one GPU computes, the whole split lies in its memory and a batch is gathered there: nothing but places
    travels. (The largest set here, CIFAR, has 150 MiB of train images.) Without a GPU it stays the NumPy array that it
    is; several devices are handed their shares of each batch.

    `resident`: keep the split in TensorFlow's memory; None: where there is a GPU.
    """

    def __init__(self, split: Split, devices: Devices = ONE_DEVICE, *, resident: bool | None = None):
        if resident is None:
            resident = devices.replicas == 1 and is_gpu()
        self._split, self._devices = split, devices
        self._variables: list[tf.Variable] = []
        if resident:
            # Variables: of uint8, a GPU has no kernel to gather from a tensor.
            self._variables = [tf.Variable(array, trainable=False) for array in (split.inputs, split.labels)]

    def __call__(self, places: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the inputs (..., one input's shape) and the labels (...) at the places (...), as a step takes them."""
        if self._variables:
            return tuple(variable.sparse_read(places) for variable in self._variables)
        return self._devices.place(self._split.inputs[places]), tf.constant(self._split.labels[places])
