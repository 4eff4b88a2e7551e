"""Entry of the residual network beside the same network made of Keras's layers."""

import keras
import numpy as np

from tests.catalog.entry import Entry, random_array
from tests.catalog.models import training_case
from tests.support.build import build
from tfcore import random
from tfcore.models.resnet import PreActivationBlock, ResNet

BATCH, STEPS, SIDE = 5, 10, 11
WIDTHS, BLOCKS = (5, 7, 7), (2, 1, 1)  # the third stage changes the stride alone


class KerasBlock(keras.layers.Layer):
    """The pre-activated block."""

    def __init__(self, channels, filters, stride, dtype):
        super().__init__(dtype=dtype)
        conv = {"use_bias": False, "padding": "same", "dtype": dtype}
        self.norms = [keras.layers.BatchNormalization(dtype=dtype) for _ in range(2)]
        self.convolutions = [keras.layers.Conv2D(filters, 3, strides=stride, **conv)]
        self.convolutions.append(keras.layers.Conv2D(filters, 3, **conv))
        self.shortcut = None
        if channels != filters or stride > 1:
            self.shortcut = keras.layers.Conv2D(filters, 1, strides=stride, **conv)

    def call(self, x, training=False):
        y = keras.ops.relu(self.norms[0](x, training=training))
        shortcut = self.shortcut(y) if self.shortcut else x
        y = keras.ops.relu(self.norms[1](self.convolutions[0](y), training=training))
        return shortcut + self.convolutions[1](y)


class KerasResNet(keras.Model):
    """Stem, blocks, head."""

    def __init__(self, mean, variance, dtype):
        super().__init__(dtype=dtype)
        self.mean, self.deviation = mean, np.sqrt(variance)
        self.stem = keras.layers.Conv2D(WIDTHS[0], 3, padding="same", use_bias=False, dtype=dtype)
        sizes = ((5, 5, 1), (5, 5, 1), (5, 7, 2), (7, 7, 2))
        self.blocks = [KerasBlock(*size, dtype) for size in sizes]
        self.norm = keras.layers.BatchNormalization(dtype=dtype)
        self.pool = keras.layers.GlobalAveragePooling2D(dtype=dtype)
        self.logits = keras.layers.Dense(3, dtype=dtype)

    def call(self, images, training=False):
        x = self.stem((images - self.mean) / self.deviation)
        for block in self.blocks:
            x = block(x, training=training)
        return self.logits(self.pool(keras.ops.relu(self.norm(x, training=training))))


def _resnet(dtype):
    rng = np.random.default_rng(0)
    images = (255 * rng.random((BATCH * STEPS, SIDE, SIDE, 3))).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, 3, len(images)).astype(np.int32)
    model = build(ResNet, widths=WIDTHS, blocks=BLOCKS, key=random.make_key(1), classes=3, dtype=dtype)
    model.normalization.fit(images)
    for i, (path, variable) in enumerate(model.named_trainable_variables().items()):
        if path.endswith(("gamma", "beta", "bias")):  # their starting values would hide a swapped pair
            variable.assign_add(0.1 * random_array(tuple(variable.shape), dtype, seed=10 + i))
    mean, variance = (value.numpy() for value in model.normalization.variables)
    twin = KerasResNet(mean, variance, dtype.name)
    twin(images[:1])  # builds it
    return training_case(model, twin, images, labels, dtype, steps=STEPS)


ENTRIES = [Entry("models.ResNet", (ResNet, PreActivationBlock), _resnet)]
