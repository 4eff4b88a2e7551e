"""The kernels that a model's involutions write for each position of its images: for pictures."""

import tensorflow as tf

from tfcore.inspect.graph.calls import Call, watch
from tfcore.layers.involution import Involution
from tfcore.module import Module


def involution_kernels(model: Module, images: tf.Tensor) -> list[tf.Tensor]:
    """Return the kernel of each call of an involution, in inference: (B, H', W', K·K, 1, G).

    `images`: what the model is called with; it runs once, eagerly.
    """
    kernels = []

    def see(call: Call):
        result = call.proceed()
        if isinstance(call.callee, Involution):
            _, kernel = result
            kernels.append(kernel)
        return result

    with watch(model, see):
        model(images, training=False)
    return kernels
