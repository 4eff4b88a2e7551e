"""The published models in Keras, compiled for `fit` with a recipe's sizes, rates and optimizer: the rivals."""

import keras
import numpy as np

from loops.data.dataset import Sizes
from loops.recipes.inn import ConvNetRecipe, InnRecipe
from loops.recipes.recipe import Recipe
from loops.recipes.timeseries import TransformerRecipe
from tests.catalog.timeseries import keras_transformer
from tests.catalog.twins import keras_convnet, keras_inn


def published(recipe: Recipe, sizes: Sizes, inputs: np.ndarray) -> keras.Model:
    """Return the Keras model of a recipe, compiled; `inputs` (n, ...) fit its normalization, where it has one.

    Raises:
        ValueError: for a recipe that has no published counterpart.
    """
    for kind, build in BUILDERS.items():
        if isinstance(recipe, kind):
            model, from_logits = build(recipe, sizes, inputs)
            break
    else:
        raise ValueError(f"{recipe.name} has no counterpart in Keras to be timed against yet: leave out --against")
    model.compile(
        optimizer=_optimizer(recipe),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        metrics=["accuracy"],
    )
    return model


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    moments = {"beta_1": recipe.beta_1, "beta_2": recipe.beta_2, "epsilon": recipe.epsilon}
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(recipe.learning_rate, **moments)
    raise ValueError(f"{recipe.name}: no counterpart of optimizer {recipe.optimizer}")


def _transformer(recipe: TransformerRecipe, sizes: Sizes, inputs: np.ndarray):
    length, channels = sizes.input_shape
    own = {name: getattr(recipe, name) for name in ("blocks", "heads", "key_dim", "hidden", "head_units")}
    model = keras_transformer(
        {**own, "length": length, "channels": channels, "classes": sizes.classes},
        "float32",
        dropout=recipe.dropout,
        head_dropout=recipe.head_dropout,
    )
    return model, False


BUILDERS = {
    ConvNetRecipe: lambda recipe, sizes, inputs: (keras_convnet("float32"), True),
    InnRecipe: lambda recipe, sizes, inputs: (keras_inn("float32"), True),
    TransformerRecipe: _transformer,
}
