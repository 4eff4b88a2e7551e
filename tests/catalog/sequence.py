"""Entries of the layers between images and attention: patches, positions, feed-forward networks, layer norm."""

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.twins import pair_variables
from tfcore import random
from tfcore.layers.embedding import Embedding
from tfcore.layers.feedforward import FeedForward, Mlp
from tfcore.layers.normalization import LayerNorm
from tfcore.layers.patches import PatchEncoder, Patches
from tfcore.ops.activations import gelu
from tfcore.ops.normalization import layer_norm
from tfcore.ops.pooling import global_average_pool
from tfcore.ops.positions import fourier_features

KEY = (3, 5)


def exact_gelu(x):
    """Keras's own in float32; in float64 it rounds √2 to float32 first, so there Φ comes from the error function."""
    if x.dtype == tf.float64:
        return x * 0.5 * tf.math.erfc(-x / tf.constant(2, tf.float64) ** 0.5)
    return keras.ops.gelu(x, approximate=False)


def _gelu(dtype):
    return Case(gelu, exact_gelu, (3 * random_array((11, 7), dtype),))


def _layer_norm(dtype):
    arrays = [random_array(shape, dtype, seed) for seed, shape in enumerate(((3, 11, 7), (7,), (7,)))]

    def theirs(x, gamma, beta):
        return keras.ops.layer_normalization(x, gamma, beta, axis=-1, epsilon=1e-6)

    return Case(lambda x, gamma, beta: layer_norm(x, gamma, beta, epsilon=1e-6), theirs, tuple(arrays))


def _layer_norm_layer(dtype):
    layer, twin = LayerNorm(width=7, dtype=dtype), keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype.name)
    for i, variable in enumerate((layer.gamma, layer.beta)):
        variable.assign(random_array((7,), dtype, seed=10 + i))
    twin.build((None, 7))
    return Case(layer, twin, (3 + random_array((3, 11, 7), dtype),), list(pair_variables(layer, twin).values()))


def _pool(dtype, shape):
    twin = keras.layers.GlobalAveragePooling2D if len(shape) == 4 else keras.layers.GlobalAveragePooling1D
    return Case(global_average_pool, twin(dtype=dtype.name), (random_array(shape, dtype),))


def _embedding(dtype):
    layer = Embedding(count=11, width=7, key=tf.constant(KEY), dtype=dtype)
    twin = keras.layers.Embedding(11, 7, dtype=dtype.name)
    twin.build((None,))
    pairs = list(pair_variables(layer, twin).values())
    factors = random_array((11, 7), dtype)
    return Case(lambda x: x * layer(), lambda x: x * twin(tf.range(11)), (factors,), pairs)


def _dense_twin(units, activation, dtype):
    return keras.layers.Dense(units, activation=activation, dtype=dtype.name)


def _network(dtype, layer, twin_layers, inputs):
    twin = keras.Sequential([keras.Input((None, inputs), dtype=dtype.name), *twin_layers])
    x = random_array((3, 11, inputs), dtype)
    return Case(layer, twin, (x,), list(pair_variables(layer, twin).values()))


def _mlp(dtype):
    layer = Mlp(inputs=7, units=(13, 5), dropout=0.1, site=0, key=tf.constant(KEY), dtype=dtype)
    return _network(dtype, layer, [_dense_twin(units, exact_gelu, dtype) for units in (13, 5)], 7)


def _mlp_training(dtype):
    """With dropout on, against the same layers under our masks."""
    layer = Mlp(inputs=7, units=(13, 5), dropout=0.3, site=4, key=tf.constant(KEY), dtype=dtype)
    twins = [_dense_twin(units, exact_gelu, dtype) for units in (13, 5)]
    case = _network(dtype, layer, twins, 7)

    def theirs(x):
        for i, dense in enumerate(twins):
            x = dense(x)
            kept = random.keep_mask(random.fold_in(tf.constant(KEY), 4 + i), x.shape, 0.3)
            x = tf.where(kept, x / 0.7, 0.0)
        return x

    return Case(
        lambda x: layer(x, training=True, key=tf.constant(KEY)), theirs, case.inputs, case.variables, masked=True
    )


def _feed_forward(dtype):
    layer = FeedForward(inputs=7, hidden=13, units=5, dropout=0.2, site=0, key=tf.constant(KEY), dtype=dtype)
    twins = [_dense_twin(13, exact_gelu, dtype), _dense_twin(5, None, dtype)]
    return _network(dtype, layer, twins, 7)


def _patches(dtype, size):
    def theirs(images):
        cut = keras.ops.image.extract_patches(images, size=size)
        return keras.ops.reshape(cut, (2, -1, size * size * 3))

    return Case(Patches(image_size=12, patch_size=size), theirs, (random_array((2, 12, 12, 3), dtype),))


def _patch_encoder(dtype, positions):
    layer = PatchEncoder(
        side=3, patch_width=5, width=7, positions=positions, bands=2, key=tf.constant(KEY), dtype=dtype
    )
    dense = keras.layers.Dense(7, dtype=dtype.name)
    embedding = keras.layers.Embedding(9, 7, dtype=dtype.name)
    x = random_array((2, 9, 5), dtype)
    features = tf.constant(np.tile(fourier_features(3, 3, bands=2), (2, 1, 1)), dtype)  # (2, 9, 10)
    dense.build((None, 5 if positions == "learned" else 15))
    embedding.build((None,))
    twins = {"projection": dense} | ({"position": embedding} if positions == "learned" else {})
    pairs = [pair for name, twin in twins.items() for pair in pair_variables(getattr(layer, name), twin).values()]

    def theirs(x):
        if positions == "learned":
            return dense(x) + embedding(tf.range(9))
        return dense(tf.concat([x, features], axis=2))

    return Case(layer, theirs, (x,), pairs)


ENTRIES = [
    Entry("ops.gelu", (gelu,), _gelu),
    Entry("ops.layer_norm", (layer_norm,), _layer_norm),
    Entry("ops.global_average_pool (B, T, C)", (global_average_pool,), lambda d: _pool(d, (3, 11, 7))),
    Entry("ops.global_average_pool (B, H, W, C)", (global_average_pool,), lambda d: _pool(d, (3, 11, 5, 7))),
    Entry("layers.LayerNorm", (LayerNorm,), _layer_norm_layer),
    Entry("layers.Embedding", (Embedding,), _embedding),
    Entry("layers.Mlp", (Mlp,), _mlp),
    Entry("layers.Mlp training", (Mlp,), _mlp_training),
    Entry("layers.FeedForward", (FeedForward,), _feed_forward),
    Entry("layers.Patches 4×4", (Patches,), lambda dtype: _patches(dtype, 4)),
    Entry("layers.Patches 1×1", (Patches,), lambda dtype: _patches(dtype, 1)),
    Entry("layers.PatchEncoder learned", (PatchEncoder,), lambda dtype: _patch_encoder(dtype, "learned")),
    Entry("layers.PatchEncoder fourier", (PatchEncoder,), lambda dtype: _patch_encoder(dtype, "fourier")),
]
