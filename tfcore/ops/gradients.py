"""What the formulations with a gradient of their own have in common."""

from collections.abc import Callable

import tensorflow as tf


def first_order(backward: Callable[..., tuple], *tensors: tf.Tensor, of: str) -> tuple:
    """Return backward(*tensors), gradients that refuse to be differentiated once more.

    TensorFlow would take what the forward pass has kept for them as constants: their own gradients would be wrong
    without a word. `of` names the operation in the message.
    """

    def refuse(*_):
        raise NotImplementedError(
            f"{of} has a gradient of its own, which cannot be differentiated once more: take second-order gradients of "
            "tfcore.ops.attention.attention_weights and a product with the values"
        )

    @tf.custom_gradient
    def run(*tensors):
        return backward(*map(tf.stop_gradient, tensors)), refuse

    return run(*tensors)
