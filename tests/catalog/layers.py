"""Entries of `tfcore.layers` beside the Keras layer with the same weights."""

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.twins import KerasInvolution, KerasMeanInvolution, pair_variables
from tfcore import random
from tfcore.layers.conv import Conv2D, DepthwiseConv2D
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.involution import Involution
from tfcore.layers.normalization import BatchNorm
from tfcore.layers.stochastic_depth import StochasticDepth
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


def _dense(dtype, use_bias=True):
    layer = _randomized(Dense(inputs=7, units=5, use_bias=use_bias, key=tf.constant(KEY), dtype=dtype))
    twin = keras.layers.Dense(5, use_bias=use_bias, dtype=dtype.name)
    return _case(layer, twin, random_array((3, 11, 7), dtype))


def _conv(dtype, **settings):
    layer = _randomized(Conv2D(channels=5, filters=3, key=tf.constant(KEY), dtype=dtype, **settings))
    twin = keras.layers.Conv2D(
        3,
        settings["kernel_size"],
        strides=settings.get("stride", 1),
        padding=settings.get("padding", "SAME").lower(),
        use_bias=settings.get("use_bias", True),
        dtype=dtype.name,
    )
    return _case(layer, twin, random_array((2, 11, 7, 5), dtype))


def _depthwise(dtype, **settings):
    layer = _randomized(DepthwiseConv2D(channels=5, **settings, key=tf.constant(KEY), dtype=dtype))
    twin = keras.layers.DepthwiseConv2D(
        settings["kernel_size"],
        strides=settings.get("stride", 1),
        padding=settings.get("padding", "SAME").lower(),
        use_bias=settings.get("use_bias", True),
        dtype=dtype.name,
    )
    return _case(layer, twin, random_array((2, 11, 7, 5), dtype))


def _batch_norm(dtype, training, **settings):
    layer = _randomized(BatchNorm(channels=5, dtype=dtype, **settings))
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


def _stochastic_depth(dtype):
    """Beside the paper's formula under our mask: an example has its branch or has it not."""
    layer, key = StochasticDepth(0.3, site=4, dtype=dtype), tf.constant(KEY)
    kept = random.keep_mask(random.fold_in(key, 4), (13,), 0.3).numpy()
    assert 0 < kept.sum() < 13

    def theirs(x):
        return tf.stack([x[b] / 0.7 if kept[b] else tf.zeros_like(x[b]) for b in range(13)])

    return Case(lambda x: layer(x, training=True, key=key), theirs, (random_array((13, 11, 7), dtype),), masked=True)


def _involution_without_norm(dtype, formulation):
    """The kernel from an affine map and a ReLU alone; "mean" is the control."""
    settings = {"in_channels": 6, "channels": 10, "groups": 3, "kernel_size": 3, "stride": 1, "reduction_ratio": 3}
    layer = Involution(**settings, batch_norm=False, formulation=formulation, key=tf.constant(KEY), dtype=dtype)
    kind = KerasMeanInvolution if formulation == "mean" else KerasInvolution
    twin = kind(**settings, batch_norm=False, dtype=dtype.name)
    return _case(_randomized(layer), twin, random_array((2, 11, 7, 6), dtype))


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
    Entry("layers.Dense without bias", (Dense,), lambda dtype: _dense(dtype, use_bias=False)),
    Entry("layers.Conv2D 3×3", (Conv2D,), lambda dtype: _conv(dtype, kernel_size=3)),
    Entry(
        "layers.Conv2D[patches] 3×3 stride 2 VALID",
        (Conv2D,),
        lambda dtype: _conv(dtype, kernel_size=3, stride=2, padding="VALID", formulation="patches"),
    ),
    Entry("layers.Conv2D without bias", (Conv2D,), lambda dtype: _conv(dtype, kernel_size=3, use_bias=False)),
    Entry("layers.DepthwiseConv2D 3×3", (DepthwiseConv2D,), lambda dtype: _depthwise(dtype, kernel_size=3)),
    Entry(
        "layers.DepthwiseConv2D[shifted] 3×3 stride 2 without bias",
        (DepthwiseConv2D,),
        lambda dtype: _depthwise(dtype, kernel_size=3, stride=2, use_bias=False, formulation="shifted"),
    ),
    Entry("layers.BatchNorm training", (BatchNorm,), lambda dtype: _batch_norm(dtype, True)),
    Entry("layers.BatchNorm[auto] training", (BatchNorm,), lambda dtype: _batch_norm(dtype, True, formulation="auto")),
    Entry("layers.BatchNorm inference", (BatchNorm,), lambda dtype: _batch_norm(dtype, False)),
    Entry("layers.Dropout training", (Dropout,), _dropout),
    Entry("layers.StochasticDepth training", (StochasticDepth,), _stochastic_depth),
    *_involutions(),
    *(
        Entry(
            f"layers.Involution[{formulation}] without batch norm",
            (Involution,),
            lambda dtype, f=formulation: _involution_without_norm(dtype, f),
        )
        for formulation in ("factored", "mean")
    ),
]
