"""Entries of `tfcore.models`: logits, gradients, and k training steps beside `keras.Model.fit`."""

import numpy as np
import tensorflow as tf

from loops.steps import Metrics, make_train_step
from tests.catalog.entry import Case, Entry
from tests.catalog.sequence import exact_gelu
from tests.catalog.transformer_twins import KerasPerceiver, KerasVit
from tests.catalog.twins import EXACT_IN_FLOAT32, fit, keras_convnet, keras_inn, pair_variables
from tfcore import random
from tfcore.layers.tokens import ImageTokens
from tfcore.layers.transformer import PreNormBlock
from tfcore.models.cnn import ConvNet
from tfcore.models.inn import Inn
from tfcore.models.perceiver import CrossAttention, Perceiver
from tfcore.models.vit import VisionTransformer
from tfcore.ops.attention import FORMULATIONS
from tfcore.optimizers.optimizer import Adam

VIT = {
    "classes": 7,
    "image_size": 15,
    "patch_size": 5,
    "width": 11,
    "blocks": 2,
    "heads": 3,
    "mlp_width": 13,
    "head_units": (17, 19),
}
PERCEIVER = {
    "classes": 7,
    "image_size": 15,
    "patch_size": 5,
    "width": 11,
    "latents": 13,
    "iterations": 2,
    "blocks": 2,
    "heads": 3,
}
# Parameters whose exact gradient is zero: a bias in front of a batch norm, and the bias of attention's keys (it adds
# one number to all scores of a query). What is left of it is rounding, which Adam, dividing by the gradient's own
# size, turns into steps of either sign: nothing to compare.
WITHOUT_EFFECT = ("reduce/bias", "attention/key/bias", "cross_attention/keys/bias")


def _case(model, twin, images, labels, dtype, *, steps, adam=EXACT_IN_FLOAT32) -> Case:
    batch = len(images) // steps

    def train():
        pairs = effective(pair_variables(model, twin))  # again: the comparison of gradients has moved statistics
        optimizer, metrics = Adam(model.named_trainable_variables(), **adam), Metrics()
        step = make_train_step(model, optimizer, metrics, key=random.make_key(0))
        losses = []
        for i in range(steps):
            metrics.reset()
            chosen = slice(i * batch, (i + 1) * batch)
            step(tf.constant(images[chosen]), tf.constant(labels[chosen]), tf.constant(i, tf.int64))
            losses.append(metrics.result()["loss"])
        return [(losses, fit(twin, images, labels, batch, dtype, adam)), *pairs]

    def effective(pairs):
        return [pair for path, pair in pairs.items() if not path.endswith(WITHOUT_EFFECT)]

    return Case(
        lambda x: model(x, training=True),
        lambda x: twin(x, training=True),
        (images[:batch],),
        effective(pair_variables(model, twin)),
        steps=train,
    )


def _network(build, keras_build, dtype) -> Case:
    """The published size, 20 steps of 11 images."""
    rng = np.random.default_rng(0)
    images = rng.random((220, 32, 32, 3)).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, 10, 220).astype(np.int32)
    model, twin = build(key=random.make_key(1), dtype=dtype), keras_build(dtype.name)
    return _case(model, twin, images, labels, dtype, steps=20)


def _transformer(
    build, keras_build, sizes, dtype, *, side=9, steps=10, batch=5, adam=EXACT_IN_FLOAT32, **options
) -> Case:
    """`steps` steps on images of `side` pixels, dropout and augmentation off."""
    rng = np.random.default_rng(0)
    images = (255 * rng.random((steps * batch, side, side, 3))).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, sizes["classes"], steps * batch).astype(np.int32)
    model = build(**sizes, **options, augmentation="none", key=random.make_key(1), dtype=dtype)
    model.tokens.normalization.fit(images)
    mean, variance = (value.numpy() for value in model.tokens.normalization.variables)
    gelu = exact_gelu if dtype == tf.float64 else "gelu"
    twin = keras_build(sizes=sizes, mean=mean, variance=variance, gelu=gelu, dtype=dtype.name)
    return _case(model, twin, images, labels, dtype, steps=steps, adam=adam)


def _vit(dtype, sizes=VIT, **options) -> Case:
    rates = {"dropout": 0.0, "head_dropout": 0.0}
    return _transformer(VisionTransformer, KerasVit, sizes, dtype, **rates, **options)


def _perceiver(dtype, sizes=PERCEIVER, **options) -> Case:
    rates = {"dropout": 0.0, "ffn_dropout": 0.0}
    return _transformer(Perceiver, KerasPerceiver, sizes, dtype, **rates, **options)


ENTRIES = [
    Entry("models.ConvNet", (ConvNet,), lambda dtype: _network(ConvNet, keras_convnet, dtype)),
    Entry("models.Inn", (Inn,), lambda dtype: _network(Inn, keras_inn, dtype)),
    Entry(
        "models.Inn[patches]",
        (Inn,),
        lambda dtype: _network(lambda **settings: Inn(formulation="patches", **settings), keras_inn, dtype),
    ),
    *(
        Entry(
            f"models.VisionTransformer[{f}]",
            (VisionTransformer, PreNormBlock, ImageTokens),
            lambda d, f=f: _vit(d, formulation=f),
        )
        for f in FORMULATIONS
    ),
    *(
        Entry(f"models.Perceiver[{f}]", (Perceiver, CrossAttention), lambda d, f=f: _perceiver(d, formulation=f))
        for f in FORMULATIONS
    ),
]

# The published sizes, 20 steps of 4 images: minutes, so only `compare_keras.py --full-size` runs them. At a learning
# rate of 2^-10 the Perceiver's loss jumps on so few images (2 a step, measured: 4.6, 12.3, 5.4, 13.5, …), and in such a
# regime every rounding grows threefold a step, in float64 too (1e-16 at the first step, 2e-11 at the twelfth).
FULL = {"side": 32, "steps": 20, "batch": 4, "adam": {**EXACT_IN_FLOAT32, "learning_rate": 2.0**-17}}
FULL_VIT = {
    "classes": 100,
    "image_size": 72,
    "patch_size": 6,
    "width": 64,
    "blocks": 8,
    "heads": 4,
    "mlp_width": 128,
    "head_units": (2048, 1024),
}
FULL_PERCEIVER = {
    "classes": 100,
    "image_size": 64,
    "patch_size": 2,
    "width": 256,
    "latents": 256,
    "iterations": 2,
    "blocks": 4,
    "heads": 8,
}
FULL_SIZE = [
    Entry("models.VisionTransformer full size", (VisionTransformer,), lambda d: _vit(d, FULL_VIT, **FULL)),
    Entry("models.Perceiver full size", (Perceiver,), lambda d: _perceiver(d, FULL_PERCEIVER, **FULL)),
]
