"""Keras's side of the benchmark: the published models ready for `fit`, and the layers of single operations."""

from collections.abc import Callable

import keras
import tensorflow as tf

from loops.data.dataset import Dataset
from loops.recipes.recipe import Recipe
from tests.catalog.published import published
from tests.catalog.twins import KerasInvolution


def compiled(recipe: Recipe, dataset: Dataset, xla: bool) -> keras.Model:
    """Return the recipe's published model, compiled for its precision; its `jit_compile` says how it will run.

    Raises:
        ValueError: for a recipe that has no published counterpart.
    """
    model = published(recipe, dataset.sizes, dataset.train.inputs)
    if recipe.precision != "float32":
        for layer in model._flatten_layers():  # Keras has no public list of the layers inside of layers
            layer.dtype_policy = recipe.precision
        # Once more: only compile() gives float16's optimizer its loss scale.
        model.compile(optimizer=model.optimizer, loss=model.loss, metrics=["accuracy"])
    model.jit_compile = xla
    model.optimizer.build(model.trainable_variables)  # else the first step is traced twice: once to make the slots
    return model


def operation(kind: str, case: dict) -> tuple[Callable, list[tf.Variable], bool]:
    """Return Keras's layer as forward(x, step's number), its trained weights, and whether XLA may compile it."""
    if kind == "involution":
        channels = case["channels"]
        layer = KerasInvolution(channels, channels, 1, case["kernel"], 1, 2)
        layer.build((None, case["size"], case["size"], channels))
        return lambda x, number: layer(x, training=True)[0], _trained([layer]), True
    if kind == "attention":
        layer = keras.layers.MultiHeadAttention(case["heads"], case["key_dim"])
        layer.build((None, case["length"], case["width"]), (None, case["length"], case["width"]))
        return lambda x, number: layer(x, x, training=True), _trained([layer]), True
    chain = [
        keras.layers.Resizing(case["size"], case["size"]),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(0.02),
        keras.layers.RandomZoom(height_factor=0.2, width_factor=0.2),
    ]

    def forward(x, number):
        x = chain[0](x)
        for layer in chain[1:]:
            x = layer(x, training=True)
        return x

    return forward, [], all(layer.supports_jit for layer in chain)


def _trained(layers: list[keras.layers.Layer]) -> list[tf.Variable]:
    return [weight.value for layer in layers for weight in layer.trainable_weights]
