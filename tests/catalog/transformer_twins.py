"""Keras twins of the vision transformer and the Perceiver, layer for layer, in one file with what they share.

Without dropout and augmentation, as parity needs them, unless a rate or `augment` (layers for training) is given.
"""

import keras
import numpy as np


class Tokens(keras.layers.Layer):
    """Normalization, resizing, patches, projection and learned positions."""

    def __init__(self, image_size, patch_size, width, mean, variance, dtype, augment=()):
        super().__init__(dtype=dtype)
        self.patch_size, self.augment = patch_size, list(augment)
        self.prepare = _preparation(image_size, mean, variance, dtype)
        self.count = (image_size // patch_size) ** 2
        self.embedding = keras.layers.Embedding(self.count, width, dtype=dtype)
        self.projection = keras.layers.Dense(width, dtype=dtype)
        self.embedding.build((None,))
        self.projection.build((None, None, 3 * patch_size**2))

    def call(self, images, training=False):
        x = self.prepare(images)
        for layer in self.augment:
            x = layer(x, training=training)
        cut = keras.ops.image.extract_patches(x, size=self.patch_size)
        patches = keras.ops.reshape(cut, (-1, self.count, 3 * self.patch_size**2))
        return self.projection(patches) + self.embedding(np.arange(self.count))


def _preparation(size, mean, variance, dtype):
    """Normalization and resizing: Keras's layers, in float64 (where they return float32) their definition."""
    if dtype == "float64":

        def prepare(images):
            rows = _interpolation(images.shape[1], size)
            return keras.ops.einsum("ih,bhwc,jw->bijc", rows, (images - mean) / np.sqrt(variance), rows)

        return prepare
    normalization = keras.layers.Normalization(mean=mean, variance=variance, dtype=dtype)
    normalization.build((None, None, None, 3))
    return keras.Sequential([normalization, keras.layers.Resizing(size, size, dtype=dtype)])


def _interpolation(before: int, after: int) -> np.ndarray:
    """The (after, before) matrix of bilinear interpolation between pixel centres."""
    matrix = np.zeros((after, before))
    for i in range(after):
        position = np.clip((i + 0.5) * before / after - 0.5, 0, before - 1)
        left = min(int(position), before - 2)
        matrix[i, left], matrix[i, left + 1] = left + 1 - position, position - left
    return matrix


class Block(keras.layers.Layer):
    """The pre-norm block; `units` of its dense layers, the last GELU optional; `drops` has a rate for each of them."""

    def __init__(self, width, heads, units, last_gelu, gelu, dtype, dropout=0.0, drops=(0.0, 0.0)):
        super().__init__(dtype=dtype)
        self.attention_norm = _norm(width, dtype)
        self.attention = keras.layers.MultiHeadAttention(heads, width, dropout=dropout, dtype=dtype)
        self.attention.build((None, None, width), (None, None, width))
        self.norm = _norm(width, dtype)
        self.dense = _dense(width, units, gelu, last_gelu, dtype)
        self.drops = [keras.layers.Dropout(rate, dtype=dtype) for rate in drops]

    def call(self, x, training=False):
        y = self.attention_norm(x)
        x = x + self.attention(y, y, training=training)
        y = self.norm(x)
        for dense, drop in zip(self.dense, self.drops, strict=True):
            y = drop(dense(y), training=training)
        return x + y


class KerasVit(keras.Model):
    """After "Image classification with Vision Transformer" (Keras examples)."""

    def __init__(self, *, sizes, mean, variance, gelu, dtype, dropout=0.0, head_dropout=0.0, augment=()):
        super().__init__(dtype=dtype)
        width = sizes["width"]
        self.tokens = Tokens(sizes["image_size"], sizes["patch_size"], width, mean, variance, dtype, augment)
        units = (sizes["mlp_width"], width)
        self.blocks = [
            Block(width, sizes["heads"], units, True, gelu, dtype, dropout, (dropout, dropout))
            for _ in range(sizes["blocks"])
        ]
        self.norm = _norm(width, dtype)
        self.flatten = keras.layers.Flatten(dtype=dtype)
        self.head = _dense(width * self.tokens.count, sizes["head_units"], gelu, True, dtype)
        self.logits = keras.layers.Dense(sizes["classes"], dtype=dtype)
        self.logits.build((None, sizes["head_units"][-1]))
        self.drops = [keras.layers.Dropout(head_dropout, dtype=dtype) for _ in range(1 + len(self.head))]

    def call(self, images, training=False):
        x = self.tokens(images, training=training)
        for block in self.blocks:
            x = block(x, training=training)
        x = self.drops[0](self.flatten(self.norm(x)), training=training)
        for dense, drop in zip(self.head, self.drops[1:], strict=True):
            x = drop(dense(x), training=training)
        return self.logits(x)


class KerasPerceiver(keras.Model):
    """After "Image classification with Perceiver" (Keras examples): keys and values made anew in each iteration."""

    def __init__(self, *, sizes, mean, variance, gelu, dtype, dropout=0.0, ffn_dropout=0.0, augment=()):
        super().__init__(dtype=dtype)
        width = sizes["width"]
        self.iterations = sizes["iterations"]
        self.tokens = Tokens(sizes["image_size"], sizes["patch_size"], width, mean, variance, dtype, augment)
        self.latents = self.add_weight(shape=(sizes["latents"], width), name="latents", dtype=dtype)
        self.latent_norm, self.data_norm = _norm(width, dtype), _norm(width, dtype)
        self.query, self.keys, self.value = (_dense(width, (width,), None, False, dtype)[0] for _ in range(3))
        self.attention = keras.layers.Attention(use_scale=True, dropout=dropout, dtype=dtype)
        self.attention.build([(None, sizes["latents"], width), *[(None, self.tokens.count, width)] * 2])
        self.norm = _norm(width, dtype)
        self.dense = _dense(width, (width, width), gelu, False, dtype)
        self.blocks = [
            Block(width, sizes["heads"], (width, width), False, gelu, dtype, dropout, (0.0, ffn_dropout))
            for _ in range(sizes["blocks"])
        ]
        self.head = _dense(width, (width, sizes["classes"]), gelu, False, dtype)
        self.ffn_drop, self.logits_drop = (keras.layers.Dropout(ffn_dropout, dtype=dtype) for _ in range(2))

    def call(self, images, training=False):
        tokens = self.tokens(images, training=training)
        latents = keras.ops.broadcast_to(self.latents, (keras.ops.shape(images)[0], *self.latents.shape))
        for _ in range(self.iterations):
            x, data = self.latent_norm(latents), self.data_norm(tokens)
            # Keras reads its list as query, value, key.
            inputs = [self.query(x), self.value(data), self.keys(data)]
            x = self.norm(self.attention(inputs, training=training) + x)
            latents = self.ffn_drop(self.dense[1](self.dense[0](x)), training=training) + x
            for block in self.blocks:
                latents = block(latents, training=training)
        x = keras.ops.mean(latents, axis=1)
        return self.logits_drop(self.head[1](self.head[0](x)), training=training)


def _norm(width, dtype):
    layer = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype)
    layer.build((None, None, width))
    return layer


def _dense(inputs, units, gelu, last_gelu, dtype):
    layers = []
    for i, size in enumerate(units):
        activation = gelu if i < len(units) - 1 or last_gelu else None
        layers.append(keras.layers.Dense(size, activation=activation, dtype=dtype))
        layers[-1].build((None, inputs))
        inputs = size
    return layers
