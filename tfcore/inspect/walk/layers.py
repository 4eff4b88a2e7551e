"""A walk through a model of others, layer by layer: outputs and gradients, no formulas.

    walk_layers(keras_model, images[:1], labels[:1], loss=keras.losses.sparse_categorical_crossentropy)

Any model works whose `layers` are objects with a `name`, a method `call` and `weights`, as Keras's. A layer that itself
has `layers` is walked through, too; what a layer computes inside stays unseen.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfcore.inspect.graph.calls import outputs
from tfcore.inspect.walk.recorder import Loss, Recorder, array_of, axes_of
from tfcore.inspect.walk.stops import Stop, Walk, place_of
from tfcore.inspect.walk.walk import check_one


def walk_layers(model: Any, inputs: tf.Tensor, labels: tf.Tensor, *, loss: Loss) -> Walk:
    """Return the output of each layer of one example's way through a model, with the gradient of the loss.

    inputs (1, ...), labels (1,); loss(labels, outputs) -> (1,), of logits or probabilities, as the model gives them.

    Raises:
        ValueError: for more than one example, or none.
    """
    inputs = check_one(inputs, labels)
    recorder = Recorder({variable.path: variable.value for variable in model.variables})
    with recorder.tape, _watched(model, recorder):
        recorder.start(inputs)
        result = model(inputs, training=False)
        losses = tf.reshape(loss(labels, result), [1])
    return recorder.walk(result, losses, labels, loss)


@contextlib.contextmanager
def _watched(model: Any, recorder: Recorder) -> Iterator[None]:
    """Let every layer's `call` record what it returns."""
    layers = list(_all_layers(model))
    for layer in layers:
        layer.call = functools.partial(_recorded, layer, layer.call, recorder)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call  # the class's own shows again


def _all_layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _all_layers(layer)
        yield layer


def _recorded(layer: Any, call: Any, recorder: Recorder, *args, **kwargs) -> Any:
    result = call(*args, **kwargs)
    for output in outputs(result)[:1]:
        if not recorder.known_as(output, layer.name):
            kind: Any = type(layer)
            stop = Stop(layer.name, "module", kind.__name__, "", axes_of(output), array_of(output))
            stop.source = place_of(kind)
            own = {} if hasattr(layer, "layers") else {weight.name: weight.value for weight in layer.weights}
            recorder.add(stop, output, own)
    return result
