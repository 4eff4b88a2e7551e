"""Starting values of weights: pure functions (shape, key, dtype) -> tensor."""

import math
from collections.abc import Callable

import tensorflow as tf

from tfcore import random

Initializer = Callable[[tuple[int, ...], tf.Tensor, tf.DType], tf.Tensor]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a kernel (inputs, units) or (*window, channels, filters), as Keras counts them."""
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


def glorot_uniform(shape: tuple[int, ...], key: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Uniform in ±√(6 / (fan_in + fan_out)); Glorot and Bengio 2010, equation 16."""
    limit = math.sqrt(6.0 / sum(fans(shape)))
    return random.uniform(key, shape, -limit, limit, dtype)


def he_uniform(shape: tuple[int, ...], key: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Uniform in ±√(6 / fan_in), of variance 2 / fan_in: keeps the scale through ReLUs; He et al. 2015, equation 10."""
    limit = math.sqrt(6.0 / fans(shape)[0])
    return random.uniform(key, shape, -limit, limit, dtype)


def normal(shape: tuple[int, ...], key: tf.Tensor, stddev: float, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Normal with mean 0; float32 numbers cast to `dtype`, as in `random.uniform`."""
    return tf.cast(stddev * tf.random.stateless_normal(shape, key, alg=random.ALGORITHM), dtype)


BY_NAME: dict[str, Initializer] = {"glorot_uniform": glorot_uniform, "he_uniform": he_uniform}
