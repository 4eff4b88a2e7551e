"""Entries of `tfcore.optimizers`: 100 steps on random gradients beside Keras's optimizer."""

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.twins import EXACT_IN_FLOAT32, keras_floatx
from tfcore.optimizers import updates
from tfcore.optimizers.optimizer import Adam

STEPS, SHAPES = 100, ((7, 5), (3,), (2, 3, 5))


def _fuzz(ours, theirs, dtype) -> list[tuple]:
    """Feed both the same gradients, of magnitudes from 1e-4 to 1e2, and return the paired variables."""
    start = [random_array(shape, dtype, seed) for seed, shape in enumerate(SHAPES)]
    our_variables = {str(i): tf.Variable(value) for i, value in enumerate(start)}
    their_variables = [keras.Variable(value, dtype=dtype.name) for value in start]
    optimizer = ours(our_variables)
    rng = np.random.default_rng(5)
    for _ in range(STEPS):
        gradients = [tf.constant(rng.standard_normal(shape) * 10 ** rng.uniform(-4, 2), dtype) for shape in SHAPES]
        optimizer.apply({str(i): gradient for i, gradient in enumerate(gradients)})
        theirs.apply(gradients, their_variables)
    return [(a, b.numpy()) for a, b in zip(our_variables.values(), their_variables, strict=True)]


def _adam(dtype):
    settings = {**EXACT_IN_FLOAT32, "epsilon": 1e-5}

    def steps():
        with keras_floatx(dtype):
            return _fuzz(lambda variables: Adam(variables, **settings), keras.optimizers.Adam(**settings), dtype)

    def ours(gradient, m, v):
        alpha, t = tf.constant(0.01, dtype), tf.constant(3)
        return updates.adam(gradient, m, v, t=t, alpha=alpha, beta_1=0.8, beta_2=0.95, epsilon=1e-5)

    def theirs_formula(gradient, m, v):
        m, v = 0.8 * m + 0.2 * gradient, 0.95 * v + 0.05 * gradient**2
        return -0.01 * np.sqrt(1 - 0.95**3) / (1 - 0.8**3) * m / (tf.sqrt(v) + 1e-5), m, v

    gradient, m, v = (random_array((7,), dtype, seed) for seed in range(3))
    return Case(ours, theirs_formula, (gradient, m, v**2), steps=steps)


ENTRIES = [Entry("optimizers.Adam 100 steps", (Adam, updates.adam), _adam)]
