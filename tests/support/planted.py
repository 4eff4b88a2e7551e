"""A module whose lines the tests of the compiler's reports look for."""

import inspect

import tensorflow as tf

from tfcore import random
from tfcore.layers.dense import Dense
from tfcore.module import Module

KEY = random.make_key(0)


class Planted(Module):
    """A line of its own, and a dense layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.parts = [Dense(inputs=7, units=7, key=KEY)]
        self.gain = tf.Variable(tf.ones([7]), name="gain")

    def __call__(self, x):
        x = self.parts[0](self.parts[0](x))
        return tf.sin(x * self.gain)  # planted


def line_of(function, text: str) -> str:
    """Return 'tests/file.py:line' of the line in a function or a class that holds a text."""
    name = inspect.unwrap(function).__module__.replace(".", "/")
    lines, first = inspect.getsourcelines(function)
    return f"{name}.py:{next(first + i for i, line in enumerate(lines) if text in line)}"


def jit(function):
    """Return the function compiled by XLA."""
    return tf.function(function, jit_compile=True, autograph=False)
