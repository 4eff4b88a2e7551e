"""Entries of `tfcore.models`: logits, gradients, and k training steps beside `keras.Model.fit`."""

import dataclasses

import numpy as np
import tensorflow as tf

from loops.steps import Metrics, make_train_step
from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.sequence import exact_gelu
from tests.catalog.transformer_twins import KerasPerceiver, KerasVit
from tests.catalog.twins import EXACT_IN_FLOAT32, fit, keras_cnn, keras_convnet, keras_inn, pair_variables
from tests.support.build import build
from tfcore import random
from tfcore.layers.tokens import ImageTokens
from tfcore.layers.transformer import PreNormBlock
from tfcore.models.cnn import Cnn, ConvNet
from tfcore.models.inn import Inn
from tfcore.models.perceiver import CrossAttention, Perceiver
from tfcore.models.vit import VisionTransformer
from tfcore.ops.activations import softmax
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
# One formulation in a stack of blocks, what auto takes in the published size; of the others (proven equal to it as
# layers) it is enough that they are used.
DEPTHS = {"folded": {}, "direct": {"blocks": 1}, "chunked": {"blocks": 1}}
PUBLISHED_CNN = {"image_size": 32, "filters": (32, 64, 128), "units": 128}
CNN = {"image_size": 16, "filters": (7, 11, 13), "units": 17}
# For the published sizes. At a learning rate of 2^-10 the Perceiver's loss jumps on so few images (2 a step, measured:
# 4.6, 12.3, 5.4, 13.5, …), and in such a regime every rounding grows threefold a step, in float64 too (1e-16 at the
# first step, 2e-11 at the twelfth). So it does in Cnn with batch norm (3.8, 3.5, 5.7, 4.1, …; in float32 2e-8 of the
# loss at the first step, 3e-3 at the twentieth).
SHORT_STEPS = {**EXACT_IN_FLOAT32, "learning_rate": 2.0**-17}
# Parameters whose exact gradient is zero: a bias in front of a batch norm, and the bias of attention's keys (it adds
# one number to all scores of a query). What is left of it is rounding, which Adam, dividing by the gradient's own
# size, turns into steps of either sign: nothing to compare.
WITHOUT_EFFECT = ("reduce/bias", "attention/key/bias", "cross_attention/keys/bias")


def training_case(
    model,
    twin,
    images,
    labels,
    dtype,
    *,
    steps,
    adam=EXACT_IN_FLOAT32,
    without_effect=WITHOUT_EFFECT,
    twin_ends_in_softmax=False,
) -> Case:
    batch = len(images) // steps

    def train():
        pairs = effective(pair_variables(model, twin))  # again: the comparison of gradients has moved statistics
        optimizer, metrics = build(Adam, model.named_trainable_variables(), **adam), Metrics()
        step = make_train_step(model, optimizer, metrics, key=random.make_key(0))
        losses = []
        for i in range(steps):
            metrics.reset()
            chosen = slice(i * batch, (i + 1) * batch)
            step(tf.constant(images[chosen]), tf.constant(labels[chosen]), tf.constant(i, tf.int64))
            losses.append(metrics.result()["loss"])
        theirs = fit(twin, images, labels, batch, dtype, adam, from_logits=not twin_ends_in_softmax)
        return [(losses, theirs), *pairs]

    def effective(pairs):
        return [pair for path, pair in pairs.items() if not path.endswith(without_effect)]

    def ours(x):
        logits = model(x, training=True)
        return softmax(logits) if twin_ends_in_softmax else logits

    return Case(
        ours,
        lambda x: twin(x, training=True),
        (images[:batch],),
        effective(pair_variables(model, twin)),
        steps=train,
    )


def _network(kind, keras_build, dtype, **options) -> Case:
    """The published size, 20 steps of 11 images."""
    rng = np.random.default_rng(0)
    images = rng.random((220, 32, 32, 3)).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, 10, 220).astype(np.int32)
    model, twin = build(kind, key=random.make_key(1), dtype=dtype, **options), keras_build(dtype.name)
    return training_case(model, twin, images, labels, dtype, steps=20)


def _convnet(dtype) -> Case:
    """In float32 without steps: no two computations of them agree but those of the same bits.

    Its ReLUs decide 12 million times in 20 steps, and some inputs are nearer to zero than rounding. Weights moved by
    1e-7 of themselves end up to 0.3 apart (measured on a CPU; 0.65 at a learning rate of 2^-12, 2e-4 at 2^-17). In
    float64 it is 5e-5, and 5e-7 for 1e-9. On a CPU both sides compute the same bits. On a GPU, which may add
    up a convolution's gradient in another order each time, they were 0.026 apart.
    """
    case = _network(ConvNet, keras_convnet, dtype)
    return case if dtype == tf.float64 else dataclasses.replace(case, steps=None)


def _cnn(dtype, sizes=CNN, adam=EXACT_IN_FLOAT32, **options) -> Case:
    """20 steps of 11 images. A convolution's bias has no effect where the batch norm follows at once."""
    rng = np.random.default_rng(0)
    images = rng.random((220, sizes["image_size"], sizes["image_size"], 3)).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, 10, 220).astype(np.int32)
    model = build(Cnn, **sizes, **options, key=random.make_key(1), dtype=dtype)
    twin = keras_cnn(dtype.name, **sizes, **options)
    for i, (path, variable) in enumerate(model.named_variables().items()):
        if path.endswith(("gamma", "beta", "alpha")):  # their starting values would hide a swapped pair
            variable.assign_add(0.1 * random_array(tuple(variable.shape), dtype, seed=10 + i))
    biases = tuple(f"convolutions/{i}/bias" for i in range(3)) if options.get("batch_norm") == "before" else ()
    return training_case(
        model, twin, images, labels, dtype, steps=20, adam=adam, without_effect=biases, twin_ends_in_softmax=True
    )


CNN_OPTIONS = {
    "batch norm after": {"batch_norm": "after"},
    "batch norm before": {"batch_norm": "before"},
    "prelu channel": {"activation": "prelu", "prelu_axis": "channel"},
    "prelu all": {"activation": "prelu", "prelu_axis": "all"},
    "leaky relu": {"activation": "leaky_relu", "slope": 2.0**-7},
}


def _transformer(
    kind, keras_build, sizes, dtype, *, side=9, steps=10, batch=5, adam=EXACT_IN_FLOAT32, **options
) -> Case:
    """`steps` steps on images of `side` pixels, dropout and augmentation off."""
    rng = np.random.default_rng(0)
    images = (255 * rng.random((steps * batch, side, side, 3))).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, sizes["classes"], steps * batch).astype(np.int32)
    model = build(kind, **sizes, **options, augmentation="none", key=random.make_key(1), dtype=dtype)
    model.tokens.normalization.fit(images)
    mean, variance = (value.numpy() for value in model.tokens.normalization.variables)
    gelu = exact_gelu if dtype == tf.float64 else "gelu"
    twin = keras_build(sizes=sizes, mean=mean, variance=variance, gelu=gelu, dtype=dtype.name)
    return training_case(model, twin, images, labels, dtype, steps=steps, adam=adam)


def _vit(dtype, sizes=VIT, **options) -> Case:
    rates = {"dropout": 0.0, "head_dropout": 0.0}
    return _transformer(VisionTransformer, KerasVit, sizes, dtype, **rates, **options)


def _perceiver(dtype, sizes=PERCEIVER, **options) -> Case:
    rates = {"dropout": 0.0, "ffn_dropout": 0.0}
    return _transformer(Perceiver, KerasPerceiver, sizes, dtype, **rates, **options)


ENTRIES = [
    Entry("models.ConvNet", (ConvNet,), _convnet),
    Entry("models.Cnn", (Cnn,), lambda dtype: _cnn(dtype, PUBLISHED_CNN, SHORT_STEPS)),
    *(Entry(f"models.Cnn {name}", (Cnn,), lambda d, o=options: _cnn(d, **o)) for name, options in CNN_OPTIONS.items()),
    Entry("models.Inn", (Inn,), lambda dtype: _network(Inn, keras_inn, dtype)),
    Entry(
        "models.Inn[patches]",
        (Inn,),
        lambda dtype: _network(Inn, keras_inn, dtype, formulation="patches"),
    ),
    *(
        Entry(
            f"models.VisionTransformer[{f}]",
            (VisionTransformer, PreNormBlock, ImageTokens),
            lambda d, f=f, depth=depth: _vit(d, VIT | depth, formulation=f),
        )
        for f, depth in DEPTHS.items()
    ),
    *(
        Entry(
            f"models.Perceiver[{f}]",
            (Perceiver, CrossAttention),
            lambda d, f=f, depth=depth: _perceiver(d, PERCEIVER | depth, formulation=f),
        )
        for f, depth in DEPTHS.items()
    ),
]

# The published sizes, 20 steps of a few images: minutes, so only `compare_keras.py --full-size` runs them.
FULL = {"side": 32, "steps": 20, "batch": 4, "adam": SHORT_STEPS}
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
    *(
        Entry(f"models.Cnn {name} full size", (Cnn,), lambda d, o=options: _cnn(d, PUBLISHED_CNN, SHORT_STEPS, **o))
        for name, options in CNN_OPTIONS.items()
    ),
]
