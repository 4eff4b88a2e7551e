"""Keras twins of our layers and models, built from Keras layers as the published texts build them."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfcore.module import Module

# Keras rounds Adam's β to float32 before it takes their powers, in float64 too: 2e-8 of difference for β = 0.9. With
# numbers that float32 holds exactly both sides mean the same, and float64 can be compared to 1e-10.
EXACT_IN_FLOAT32 = {"learning_rate": 2.0**-10, "beta_1": 1 - 2.0**-3, "beta_2": 1 - 2.0**-10}


@contextlib.contextmanager
def keras_floatx(dtype: tf.DType) -> Iterator[None]:
    """Let Keras keep optimizer slots and the learning rate in `dtype`."""
    before = keras.config.floatx()
    keras.config.set_floatx(dtype.name)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


class KerasInvolution(keras.layers.Layer):
    """Involution by materialized patches, after the description in "Involutional neural networks" (Keras examples)."""

    def __init__(
        self,
        in_channels,
        channels,
        groups,
        kernel_size,
        stride,
        reduction_ratio,
        group_order="modulo",
        batch_norm=True,
        dtype=None,
    ):
        super().__init__(dtype=dtype)
        self.in_channels, self.groups, self.window, self.stride = in_channels, groups, kernel_size, stride
        self.group_order = group_order
        self.pool = keras.layers.AveragePooling2D(stride, stride, padding="same", dtype=dtype)
        self.reduce = keras.layers.Conv2D(channels // reduction_ratio, 1, dtype=dtype)
        self.norm = keras.layers.BatchNormalization(dtype=dtype) if batch_norm else None
        self.expand = keras.layers.Conv2D(kernel_size**2 * groups, 1, dtype=dtype)

    def build(self, shape):
        self.reduce.build(shape)
        hidden = (*shape[:-1], self.reduce.filters)
        if self.norm is not None:
            self.norm.build(hidden)
        self.expand.build(hidden)

    def call(self, x, training=False):
        source = self.pool(x) if self.stride > 1 else x
        hidden = self.reduce(source)
        if self.norm is not None:
            hidden = self.norm(hidden, training=training)
        kernel = self.kernel_of(tf.nn.relu(hidden))
        height, width = kernel.shape[1:3]
        taps, groups, width_of_group = self.window**2, self.groups, self.in_channels // self.groups
        kernel = tf.reshape(kernel, [-1, height, width, taps, 1, groups])
        window = [1, self.window, self.window, 1]
        patches = tf.image.extract_patches(
            x, window, strides=[1, self.stride, self.stride, 1], rates=[1, 1, 1, 1], padding="SAME"
        )
        if self.group_order == "modulo":
            patches = tf.reshape(patches, [-1, height, width, taps, width_of_group, groups])
            output = tf.reduce_sum(kernel * patches, axis=3)
        else:
            patches = tf.reshape(patches, [-1, height, width, taps, groups, width_of_group])
            output = tf.reduce_sum(tf.reshape(kernel, [-1, height, width, taps, groups, 1]) * patches, axis=3)
        return tf.reshape(output, [-1, height, width, self.in_channels]), kernel

    def kernel_of(self, hidden):
        return self.expand(hidden)


class KerasMeanInvolution(KerasInvolution):
    """The control: at every position the image's mean kernel."""

    def kernel_of(self, hidden):
        kernel = self.expand(hidden)
        return tf.broadcast_to(tf.reduce_mean(kernel, axis=(1, 2), keepdims=True), tf.shape(kernel))


def keras_inn(dtype: str) -> keras.Model:
    """The published involution network."""
    inputs = x = keras.Input((32, 32, 3), dtype=dtype)
    for i in range(3):
        if i:
            x = keras.layers.MaxPooling2D(2, dtype=dtype)(x)
        x, _ = KerasInvolution(3, 3, 1, 3, 1, 2, dtype=dtype)(x)
        x = keras.layers.ReLU(dtype=dtype)(x)
    return keras.Model(inputs, _head(x, dtype))


def keras_convnet(dtype: str) -> keras.Model:
    """The published convolution network."""
    inputs = x = keras.Input((32, 32, 3), dtype=dtype)
    for i, filters in enumerate((32, 64, 64)):
        if i:
            x = keras.layers.MaxPooling2D(2, dtype=dtype)(x)
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", dtype=dtype)(x)
    return keras.Model(inputs, _head(x, dtype))


def keras_cnn(
    dtype: str,
    *,
    image_size: int,
    filters: tuple[int, ...],
    units: int,
    activation: str = "relu",
    slope: float = 0.01,
    prelu_axis: str | None = None,
    batch_norm: str = "none",
    dropout: float = 0.0,
) -> keras.Model:
    """The network of the chapter on improving a CNN's accuracy, softmax at the end."""

    def activate(x):
        if activation == "prelu":
            shared = [1, 2] if prelu_axis == "channel" and len(x.shape) == 4 else None
            return keras.layers.PReLU(shared_axes=shared, dtype=dtype)(x)
        if activation == "leaky_relu":
            return keras.layers.LeakyReLU(slope, dtype=dtype)(x)
        return keras.layers.Activation(activation, dtype=dtype)(x)

    inputs = x = keras.Input((image_size, image_size, 3), dtype=dtype)
    for width in filters:
        x = keras.layers.Conv2D(width, 3, padding="same", dtype=dtype)(x)
        if batch_norm == "before":
            x = keras.layers.BatchNormalization(dtype=dtype)(x)
        x = activate(x)
        if batch_norm == "after":
            x = keras.layers.BatchNormalization(dtype=dtype)(x)
        x = keras.layers.MaxPooling2D(2, dtype=dtype)(x)
    x = keras.layers.Flatten(dtype=dtype)(x)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype)(x)
    x = activate(keras.layers.Dense(units, dtype=dtype)(x))
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", dtype=dtype)(x))


def _head(x, dtype):
    x = keras.layers.Flatten(dtype=dtype)(x)
    x = keras.layers.Dense(64, activation="relu", dtype=dtype)(x)
    return keras.layers.Dense(10, dtype=dtype)(x)


def pair_variables(ours: Module, theirs: keras.Layer) -> dict[str, tuple[tf.Variable, tf.Variable]]:
    """Pair the trained variables of both sides by path, after copying ours (all of them) over Keras's by name.

    Both list layers in the order of the model; within a layer the names (kernel, bias, gamma, …) tell. The statistics
    of an image normalization are given to Keras's layer when it is built.
    """
    pairs = {}
    unpaired = list(theirs.weights)
    for path, variable in ours.named_variables().items():
        if "normalization/" in path:
            continue
        name = path.split("/")[-1]
        weight = next(weight for weight in unpaired if weight.name == name)
        unpaired = [other for other in unpaired if other is not weight]
        weight.assign(variable.numpy())
        if variable.trainable:
            pairs[path] = (variable, weight.value)
    assert not unpaired, f"Keras has weights that we have not: {unpaired}"
    return pairs


def fit(
    model: keras.Model,
    inputs: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    dtype: tf.DType,
    adam: dict,
    *,
    from_logits: bool = True,
) -> list[float]:
    """One epoch of `keras.Model.fit` with Adam in the given order; return the loss of each step."""

    class Losses(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.sums = [0.0]

        def on_train_batch_end(self, batch, logs=None):
            self.sums.append(logs["loss"] * (batch + 1))  # Keras reports the mean over the steps so far

    losses = Losses()
    with keras_floatx(dtype):
        model.compile(
            optimizer=keras.optimizers.Adam(**adam),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
            jit_compile=False,
        )
        model.optimizer.build(model.trainable_variables)  # else fit() traces the step twice: once to make the slots
        model.fit(inputs, labels, batch_size=batch_size, epochs=1, shuffle=False, verbose=0, callbacks=[losses])
    return list(np.diff(losses.sums))
