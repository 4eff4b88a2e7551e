"""Entries of `tfcore.layers` beside the Keras layer with the same weights."""

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.twins import KerasInvolution, pair_variables
from tfcore import random
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.involution import Involution
from tfcore.layers.normalization import BatchNorm
from tfcore.module import Module
from tfcore.ops.involution import FORMULATIONS

KEY = (3, 5)  # a key's two numbers; the tensor is made where it is used


def _randomized(layer: Module) -> Module:
    """Replace zeros and ones, under which errors hide, by random weights (variances positive)."""
    for i, (path, variable) in enumerate(layer.named_variables().items()):
        value = random_array(tuple(variable.shape), variable.dtype, seed=10 + i)
        variable.assign(np.abs(value) if path.endswith("variance") else 0.5 * value)
    return layer


def _case(layer: Module, twin: keras.Layer, x: np.ndarray, without_effect: tuple[str, ...] = (), **call) -> Case:
    """`without_effect`: variables whose gradient is zero in exact arithmetic: both sides hold rounding alone."""
    twin.build(x.shape)
    pairs = {path: pair for path, pair in pair_variables(layer, twin).items() if path not in without_effect}
    return Case(lambda x: layer(x, **call), lambda x: twin(x, **call), (x,), list(pairs.values()))


def _dense(dtype):
    layer = _randomized(Dense(inputs=7, units=5, key=tf.constant(KEY), dtype=dtype))
    return _case(layer, keras.layers.Dense(5, dtype=dtype.name), random_array((3, 11, 7), dtype))


def _conv(dtype, **settings):
    layer = _randomized(Conv2D(channels=5, filters=3, key=tf.constant(KEY), dtype=dtype, **settings))
    twin = keras.layers.Conv2D(
        3,
        settings["kernel_size"],
        strides=settings.get("stride", 1),
        padding=settings.get("padding", "SAME").lower(),
        dtype=dtype.name,
    )
    x = random_array((2, 11, 7, 5), dtype)
    twin.build(x.shape)
    return Case(layer, twin, (x,), list(pair_variables(layer, twin).values()))


def _batch_norm(dtype, training):
    layer = _randomized(BatchNorm(channels=5, dtype=dtype))
    twin = keras.layers.BatchNormalization(dtype=dtype.name)
    x = 3 + random_array((2, 11, 7, 5), dtype)
    twin.build(x.shape)
    pairs = pair_variables(layer, twin)

    def with_statistics(layer):
        def call(x):
            y = layer(x, training=training)
            return y, tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)

        return call

    # The statistics carry no gradient: their part of the weighted sum is a constant.
    return Case(with_statistics(layer), with_statistics(twin), (x,), list(pairs.values()))


def _dropout(dtype):
    layer = Dropout(0.3, site=4, dtype=dtype)
    kept = random.keep_mask(random.fold_in(tf.constant(KEY), 4), (13, 11, 7), 0.3)
    return Case(
        lambda x: layer(x, training=True, key=tf.constant(KEY)),
        # Keras draws masks of its own, so the reference is its formula under our mask.
        lambda x: x / 0.7 * tf.cast(kept, x.dtype),
        (random_array((13, 11, 7), dtype),),
        masked=True,
    )


def _involution(dtype, formulation, stride, groups, order, training):
    settings = {"in_channels": 6, "channels": 10, "groups": groups, "kernel_size": 3, "stride": stride}
    layer = Involution(
        **settings,
        reduction_ratio=3,
        group_order=order,
        formulation=formulation,
        key=tf.constant(KEY),
        dtype=dtype,
    )
    twin = KerasInvolution(**settings, reduction_ratio=3, group_order=order, dtype=dtype.name)
    # The batch norm takes the mean away, and this bias with it.
    without_effect = ("reduce/bias",) if training else ()
    return _case(_randomized(layer), twin, random_array((2, 11, 7, 6), dtype), without_effect, training=training)


def _involutions() -> list[Entry]:
    entries = []
    for formulation in (*FORMULATIONS, "factored"):
        for stride, groups, order, training in (
            (1, 1, "modulo", False),
            (1, 2, "modulo", True),
            (2, 3, "modulo", True),
            (3, 2, "block", True),
        ):
            mode = "training" if training else "inference"
            name = f"layers.Involution[{formulation}] stride {stride} groups {groups} {order} {mode}"
            settings = (formulation, stride, groups, order, training)
            entries.append(Entry(name, (Involution,), lambda dtype, s=settings: _involution(dtype, *s)))
    return entries


ENTRIES = [
    Entry("layers.Dense", (Dense,), _dense),
    Entry("layers.Conv2D 3×3", (Conv2D,), lambda dtype: _conv(dtype, kernel_size=3)),
    Entry(
        "layers.Conv2D[patches] 3×3 stride 2 VALID",
        (Conv2D,),
        lambda dtype: _conv(dtype, kernel_size=3, stride=2, padding="VALID", formulation="patches"),
    ),
    Entry("layers.BatchNorm training", (BatchNorm,), lambda dtype: _batch_norm(dtype, True)),
    Entry("layers.BatchNorm inference", (BatchNorm,), lambda dtype: _batch_norm(dtype, False)),
    Entry("layers.Dropout training", (Dropout,), _dropout),
    *_involutions(),
]
