"""Entries of `tfcore.models`: logits, gradients, and 20 training steps beside `keras.Model.fit`."""

import numpy as np
import tensorflow as tf

from loops.steps import Metrics, make_train_step
from tests.catalog.entry import Case, Entry
from tests.catalog.twins import EXACT_IN_FLOAT32, fit, keras_convnet, keras_inn, pair_variables
from tfcore import random
from tfcore.models.cnn import ConvNet
from tfcore.models.inn import Inn
from tfcore.optimizers.optimizer import Adam

STEPS, BATCH = 20, 11


def _case(build, keras_build, dtype) -> Case:
    rng = np.random.default_rng(0)
    images = rng.random((STEPS * BATCH, 32, 32, 3)).astype(dtype.as_numpy_dtype)
    labels = rng.integers(0, 10, STEPS * BATCH).astype(np.int32)
    model, twin = build(key=random.make_key(1), dtype=dtype), keras_build(dtype.name)

    def steps():
        pairs = pair_variables(model, twin)  # again: the comparison of gradients has moved the statistics
        optimizer, metrics = Adam(model.named_trainable_variables(), **EXACT_IN_FLOAT32), Metrics()
        step = make_train_step(model, optimizer, metrics, key=random.make_key(0))
        losses = []
        for i in range(STEPS):
            metrics.reset()
            chosen = slice(i * BATCH, (i + 1) * BATCH)
            step(tf.constant(images[chosen]), tf.constant(labels[chosen]), tf.constant(i, tf.int64))
            losses.append(metrics.result()["loss"])
        # A bias in front of a batch norm has no effect, so its exact gradient is zero. What is left is rounding, which
        # Adam, dividing by the gradient's own size, turns into steps of either sign: nothing to compare.
        weights = [pair for path, pair in pairs.items() if not path.endswith("reduce/bias")]
        return [(losses, fit(twin, images, labels, BATCH)), *weights]

    return Case(
        lambda x: model(x, training=True),
        lambda x: twin(x, training=True),
        (images[:BATCH],),
        list(pair_variables(model, twin).values()),
        steps=steps,
    )


ENTRIES = [
    Entry("models.ConvNet", (ConvNet,), lambda dtype: _case(ConvNet, keras_convnet, dtype)),
    Entry("models.Inn", (Inn,), lambda dtype: _case(Inn, keras_inn, dtype)),
    Entry(
        "models.Inn[patches]",
        (Inn,),
        lambda dtype: _case(lambda **settings: Inn(formulation="patches", **settings), keras_inn, dtype),
    ),
]
