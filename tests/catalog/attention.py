"""Entries of attention: ops beside the formula in keras.ops, layers beside Keras's layers."""

from functools import partial

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tests.catalog.twins import pair_variables
from tfcore import random
from tfcore.layers.attention import Attention, MultiHeadAttention, Projection
from tfcore.ops import attention, attention_direct, attention_dropout, attention_folded

B, N, T, S, D, E = 2, 3, 13, 257, 5, 7  # S: three blocks of 86 keys, but one
KEY, RATE = (3, 5), 0.3


def _mask() -> tf.Tensor:
    """Random, with a row that sees one key only and one whole block of keys hidden from everybody."""
    mask = np.random.default_rng(4).random((B, 1, T, S)) < 0.6
    mask[:, :, 2] = False
    mask[:, :, 2, 5] = True
    mask[1, :, :, :128] = False
    mask[1, :, 2, 200] = True
    return tf.constant(mask)


def _formula(query, key, value, scale, mask, kept):
    scores = keras.ops.einsum("bntd,bnsd->bnts", query, key) * scale
    if mask is not None:
        scores = keras.ops.where(mask, scores, -1e30)
    weights = keras.ops.softmax(scores, axis=-1)
    if kept is not None:
        weights = weights * keras.ops.cast(kept, weights.dtype) / (1 - RATE)
    return keras.ops.einsum("bnts,bnse->bnte", weights, value)


def _kept() -> tf.Tensor:
    masks = [random.keep_mask(random.fold_in(tf.constant(KEY), i), (B, N, T, 86), RATE) for i in range(3)]
    return tf.concat(masks, axis=3)[..., :S]


def _inputs(dtype):
    shapes = ((B, N, T, D), (B, N, S, D), (B, N, S, E))
    scale = np.asarray(D**-0.5, dtype.as_numpy_dtype)
    return *(random_array(shape, dtype, seed) for seed, shape in enumerate(shapes)), scale


def _attend(formulation, masked, dropout):
    def case(dtype):
        mask = _mask() if masked else None
        settings = {"dropout_rate": RATE, "dropout_key": tf.constant(KEY)} if dropout else {}

        def ours(query, key, value, scale):
            return attention.attend(query, key, value, scale=scale, mask=mask, formulation=formulation, **settings)

        def theirs(query, key, value, scale):
            return _formula(query, key, value, scale, mask, _kept() if dropout else None)

        return Case(ours, theirs, _inputs(dtype))

    name = f"ops.attend[{formulation}]" + " mask" * masked + " dropout" * dropout
    proven = (attention.attend, attention.FORMULATIONS[formulation], attention_dropout.keep_block)
    if formulation == "direct":
        proven += (attention_direct.mix, attention_dropout.keep_all)
    return Entry(name, proven, case)


def _weights(dtype):
    query, key, _, scale = _inputs(dtype)

    def theirs(query, key, scale):
        scores = keras.ops.einsum("bntd,bnsd->bnts", query, key) * scale
        return keras.ops.softmax(keras.ops.where(_mask(), scores, -1e30), axis=-1)

    def ours(query, key, scale):
        return attention.attention_weights(query, key, scale=scale, mask=_mask())

    return Case(ours, theirs, (query, key, scale))


def _layer(dtype, formulation, cross, **settings):
    width, context_width = 7, 11 if cross else 7
    layer = MultiHeadAttention(
        width=width,
        context_width=context_width,
        heads=3,
        key_dim=5,
        formulation=formulation,
        key=tf.constant(KEY),
        dtype=dtype,
        **settings,
    )
    for i, variable in enumerate(layer.variables):
        variable.assign(0.5 * random_array(tuple(variable.shape), dtype, seed=10 + i))
    return layer


def _folded_dropout(dtype, masked):
    """The folded layer beside the direct one, with dropout: then the weights of a query no longer sum to 1.

    The steps are three of gradient descent, each with masks of its own.
    """
    layers = [_layer(dtype, formulation, True, dropout=RATE, site=2) for formulation in ("folded", "direct")]
    x, context = random_array((2, 13, 7), dtype), random_array((2, 131, 11), dtype, 1)
    mask = np.random.default_rng(0).random((2, 1, 13, 131)) < 0.7
    mask[0, :, 3] = False  # this query may attend to nothing
    settings = {"training": True, "key": tf.constant(KEY), "mask": tf.constant(mask) if masked else None}

    def train(pairs):
        losses = []
        for side, layer in enumerate(layers):
            variables = [pair[side] for pair in pairs]
            for step in range(3):
                with tf.GradientTape() as tape:
                    y = layer(x, context, **{**settings, "key": random.fold_in(tf.constant(KEY), step)})
                    losses.append(tf.reduce_mean(tf.square(y - 1.0)))
                for variable, gradient in zip(variables, tape.gradient(losses[-1], variables), strict=True):
                    variable.assign_sub(0.25 * gradient)
        return [*zip(losses[:3], losses[3:], strict=True), *pairs]

    ours, theirs = (layer.named_variables() for layer in layers)
    pairs = [(ours[path], theirs[path]) for path in ours if path != "key/bias"]
    return Case(*(partial(layer, **settings) for layer in layers), (x, context), pairs, steps=partial(train, pairs))


def _multi_head(dtype, formulation, cross):
    width, context_width = 7, 11 if cross else 7
    layer = _layer(dtype, formulation, cross)
    twin = keras.layers.MultiHeadAttention(3, 5, dtype=dtype.name)
    x, context = random_array((2, 13, width), dtype), random_array((2, 17, context_width), dtype, 1)
    mask = tf.constant(np.random.default_rng(0).random((2, 13, 17 if cross else 13)) < 0.7)
    inputs = (x, context) if cross else (x,)
    twin.build(x.shape, (context if cross else x).shape)
    # One number added to all scores of a query changes no weight, so the exact gradient of the keys' bias is zero.
    pairs = [pair for path, pair in pair_variables(layer, twin).items() if path != "key/bias"]
    return Case(
        lambda x, context=None: layer(x, context, mask=mask[:, None]),
        lambda x, context=None: twin(x, x if context is None else context, attention_mask=mask),
        inputs,
        pairs,
    )


def _single_head(dtype):
    layer, twin = Attention(dtype=dtype), keras.layers.Attention(use_scale=True, dtype=dtype.name)
    shapes = ((2, 13, 7), (2, 17, 7), (2, 17, 5))
    query, keys, values = (random_array(shape, dtype, seed) for seed, shape in enumerate(shapes))
    layer.scale.assign(tf.constant(0.37, dtype))
    twin.build([query.shape, values.shape, keys.shape])
    pairs = list(pair_variables(layer, twin).values())
    # Keras reads its list as query, value, key.
    return Case(layer, lambda query, keys, values: twin([query, values, keys]), (query, keys, values), pairs)


ENTRIES = [
    *(
        _attend(formulation, masked, dropout)
        for formulation in attention.FORMULATIONS
        for masked in (False, True)
        for dropout in (False, True)
    ),
    Entry("ops.attention_weights mask", (attention.attention_weights, attention_direct.softmax_weights), _weights),
    *(
        Entry(
            f"layers.MultiHeadAttention[{formulation}] {'cross' if cross else 'self'}",
            (MultiHeadAttention, Projection),
            lambda dtype, f=formulation, c=cross: _multi_head(dtype, f, c),
        )
        for formulation in (*attention.FORMULATIONS, "folded")
        for cross in (False, True)
    ),
    *(
        Entry(
            "layers.MultiHeadAttention[folded] dropout" + " mask" * masked,
            (MultiHeadAttention, attention_folded.attend_folded),
            lambda dtype, m=masked: _folded_dropout(dtype, m),
        )
        for masked in (False, True)
    ),
    Entry("layers.Attention", (Attention,), _single_head),
]
