"""Entries of the activation functions, and of the layers that hold them, beside Keras's."""

import keras
import numpy as np

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.sequence import exact_gelu
from tests.catalog.twins import pair_variables
from tfcore.layers.activation import FUNCTIONS, Activation, PRelu
from tfcore.ops import activations

SLOPE = 2.0**-7  # TensorFlow keeps the slope of a leaky ReLU in float32
SHAPE = (2, 11, 7, 5)
KERAS = {
    "sigmoid": keras.ops.sigmoid,
    "tanh": keras.ops.tanh,
    "relu": keras.ops.relu,
    "leaky_relu": lambda x: keras.ops.leaky_relu(x, SLOPE),
    "gelu": exact_gelu,
}


def _inputs(dtype) -> tuple[np.ndarray, np.ndarray]:
    """Usual numbers, zeros among them, and numbers whose exponentials overflow."""
    x = 3 * random_array(SHAPE, dtype)
    x[:, 0] = 0
    return x, np.array([-1e4, -100, -1, 1, 100, 1e4], dtype.as_numpy_dtype)


def _on_both(function):
    return lambda x, extreme: (function(x), function(extreme))


def _rows(name):
    reference = getattr(keras.ops, name)
    return lambda dtype: Case(getattr(activations, name), reference, (10 * random_array((11, 7), dtype),))


def _elementwise(name, ours):
    return lambda dtype: Case(_on_both(ours), _on_both(KERAS[name]), _inputs(dtype))


def _prelu(shape):
    def case(dtype):
        def theirs(x, slope):
            return keras.ops.relu(x) - slope * keras.ops.relu(-x)

        x, _ = _inputs(dtype)
        return Case(activations.prelu, theirs, (x, random_array(shape, dtype, 1)))

    return case


def _prelu_layer(axis, shared_axes, shape=SHAPE):
    def case(dtype):
        layer = PRelu(shape=shape[1:], axis=axis, initial_slope=0.25, dtype=dtype)
        layer.alpha.assign_add(0.1 * random_array(tuple(layer.alpha.shape), dtype, 1))
        twin = keras.layers.PReLU(shared_axes=shared_axes, dtype=dtype.name)
        twin.build(shape)
        pairs = list(pair_variables(layer, twin).values())
        x = random_array(shape, dtype)
        x[:, 0] = 0
        return Case(layer, twin, (x,), pairs)

    return case


ENTRIES = [
    *(Entry(f"ops.{name}", (getattr(activations, name),), _rows(name)) for name in ("relu", "softmax", "log_softmax")),
    Entry("ops.sigmoid", (activations.sigmoid,), _elementwise("sigmoid", activations.sigmoid)),
    Entry("ops.tanh", (activations.tanh,), _elementwise("tanh", activations.tanh)),
    Entry(
        "ops.leaky_relu",
        (activations.leaky_relu,),
        _elementwise("leaky_relu", lambda x: activations.leaky_relu(x, SLOPE)),
    ),
    Entry("ops.prelu slope of a channel", (activations.prelu,), _prelu(SHAPE[3:])),
    Entry("ops.prelu slope of an element", (activations.prelu,), _prelu(SHAPE[1:])),
    *(
        Entry(f"layers.Activation {name}", (Activation,), _elementwise(name, Activation(name, slope=SLOPE)))
        for name in FUNCTIONS
    ),
    Entry("layers.PRelu channel", (PRelu,), _prelu_layer("channel", [1, 2])),
    Entry("layers.PRelu all", (PRelu,), _prelu_layer("all", None)),
    Entry("layers.PRelu of a dense layer", (PRelu,), _prelu_layer("channel", None, (11, 7))),
]
