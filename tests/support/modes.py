"""The three ways in which TensorFlow runs a function: what tests of equal results in each of them share."""

import functools

import tensorflow as tf

MODES = {
    "eager": lambda function: function,
    "graph": functools.partial(tf.function, autograph=False),
    "xla": functools.partial(tf.function, autograph=False, jit_compile=True),
}
