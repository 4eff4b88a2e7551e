"""Entries of the parameters that are broadcast: sums and products beside Keras's."""

import keras

from tests.catalog.entry import Case, Entry, random_array
from tfcore.ops import parameters

SHAPE = (2, 11, 7, 5)


def _combined(ours, theirs, shape) -> Entry:
    def case(dtype):
        return Case(ours, theirs, (random_array(SHAPE, dtype), random_array(shape, dtype, 1)))

    return Entry(f"ops.{ours.__name__} of shape {shape}", (ours,), case)


def _broadcast(dtype) -> Case:
    def ours(x):
        return parameters.broadcast_parameter(x, SHAPE)

    def theirs(x):
        return keras.ops.broadcast_to(x, SHAPE)

    return Case(ours, theirs, (random_array((1, 11, 1, 5), dtype),))


ENTRIES = [
    *(
        _combined(ours, theirs, shape)
        for ours, theirs in (
            (parameters.add_parameter, keras.ops.add),
            (parameters.multiply_parameter, keras.ops.multiply),
        )
        for shape in ((), (5,), (11, 1, 5))
    ),
    Entry("ops.broadcast_parameter", (parameters.broadcast_parameter,), _broadcast),
]
