"""One example through a model, forward and backward.

    found = walk(model, images[:1], labels[:1])
    found["involutions/0: kernel"].value, found["involutions/0: kernel"].gradient

The model runs once, eagerly, in inference, under a tape; modules and activations are watched by interception, so that
outputs and loss are those of the plain call, to the bit. What a layer computes inside is computed again
(`tfcore.inspect.walk.steps`).
"""

import tensorflow as tf

from tfcore.inspect.graph.calls import watch
from tfcore.inspect.walk.recorder import Loss, Recorder
from tfcore.inspect.walk.stops import Walk
from tfcore.module import Module
from tfcore.ops.losses import cross_entropy_from_logits


def walk(model: Module, inputs: tf.Tensor, labels: tf.Tensor, *, loss: Loss = cross_entropy_from_logits) -> Walk:
    """Return every tensor of one example's way through a model, with the gradient of the loss.

    inputs (1, ...) as the model takes them, labels (1,); loss(labels, outputs) -> (1,).

    Raises:
        ValueError: for more than one example, or none.
    """
    inputs = check_one(inputs, labels)
    recorder = Recorder(model.named_variables())
    with recorder.tape, watch(model, recorder.see):
        recorder.start(inputs)
        result = model(inputs, training=False)
        losses = loss(labels, result)
    return recorder.walk(result, losses, labels, loss)


def check_one(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the inputs as a tensor of their own. Raises ValueError unless they are of one example."""
    if inputs.shape.rank < 2 or inputs.shape[0] != 1 or tuple(labels.shape) != (1,):
        raise ValueError(
            f"walk takes one example: inputs (1, ...) and labels (1,), got {tuple(inputs.shape)} and "
            f"{tuple(labels.shape)}"
        )
    return tf.identity(inputs)
