"""The published models in Keras, compiled for `fit` with a recipe's sizes, rates and optimizer: the rivals."""

import dataclasses

import keras
import numpy as np

from loops.data.dataset import Sizes
from loops.recipes.cnn import CnnRecipe
from loops.recipes.inn import ConvNetRecipe, InnRecipe
from loops.recipes.perceiver import PerceiverRecipe
from loops.recipes.recipe import Recipe
from loops.recipes.timeseries import TransformerRecipe
from loops.recipes.vit import VitRecipe
from tests.catalog.timeseries import keras_transformer
from tests.catalog.transformer_twins import KerasPerceiver, KerasVit
from tests.catalog.twins import keras_cnn, keras_convnet, keras_inn
from tfcore.layers.augmentation import channel_statistics


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
    config = recipe.optimizer
    kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}
    if config.name not in kinds:
        raise ValueError(f"{recipe.name}: no counterpart of optimizer {config.name}")
    # Keras scales the decay by the learning rate: as much arithmetic.
    same = ("learning_rate", "beta_1", "beta_2", "epsilon", *(["weight_decay"] if config.name != "adam" else []))
    return kinds[config.name](**{name: getattr(config, name) for name in same})


def _transformer(recipe: TransformerRecipe, sizes: Sizes, inputs: np.ndarray):
    length, channels = sizes.input_shape
    own = {name: getattr(recipe.model, name) for name in ("blocks", "heads", "key_dim", "hidden", "head_units")}
    model = keras_transformer(
        {**own, "length": length, "channels": channels, "classes": sizes.classes},
        "float32",
        dropout=recipe.model.dropout,
        head_dropout=recipe.model.head_dropout,
    )
    return model, False


def _image_model(kind: type, recipe: VitRecipe | PerceiverRecipe, inputs: np.ndarray, zoom_only: bool, **rates):
    """A transformer of images, its augmentation by Keras's layers, as the published texts put it into the model."""
    mean, variance = channel_statistics(inputs)
    augment = []
    if recipe.model.augmentation != "none":
        augment = [
            keras.layers.RandomFlip("horizontal"),
            *([] if zoom_only else [keras.layers.RandomRotation(0.02)]),
            keras.layers.RandomZoom(height_factor=0.2, width_factor=0.2),
        ]
    sizes = dataclasses.asdict(recipe.model)
    sizes["classes"] = 100 if recipe.dataset == "cifar100" else 10
    model = kind(sizes=sizes, mean=mean, variance=variance, gelu="gelu", dtype="float32", augment=augment, **rates)
    return model, True


def _vit(recipe: VitRecipe, sizes: Sizes, inputs: np.ndarray):
    for field in ("stem", "key_dim", "feed_forward", "stochastic_depth", "head"):
        value = getattr(recipe.model, field)
        if value != getattr(type(recipe.model), field):
            raise ValueError(f"{recipe.name}: no counterpart of {field} {value}")
    rates = {"dropout": recipe.model.dropout, "head_dropout": recipe.model.head_dropout}
    return _image_model(KerasVit, recipe, inputs, zoom_only=False, **rates)


def _perceiver(recipe: PerceiverRecipe, sizes: Sizes, inputs: np.ndarray):
    if recipe.model.positions != "learned":
        raise ValueError(f"{recipe.name}: no counterpart of positions {recipe.model.positions}")
    rates = {"dropout": recipe.model.dropout, "ffn_dropout": recipe.model.ffn_dropout}
    return _image_model(KerasPerceiver, recipe, inputs, zoom_only=True, **rates)


def _cnn(recipe: CnnRecipe, sizes: Sizes, inputs: np.ndarray):
    if recipe.l1 or recipe.l2:
        raise ValueError(f"{recipe.name}: no counterpart of a penalty")
    same = ("activation", "slope", "prelu_axis", "batch_norm", "dropout", "units", "filters")
    settings = {name: getattr(recipe.model, name) for name in same}
    return keras_cnn("float32", image_size=sizes.input_shape[0], **settings), False


BUILDERS = {
    ConvNetRecipe: lambda recipe, sizes, inputs: (keras_convnet("float32"), True),
    InnRecipe: lambda recipe, sizes, inputs: (keras_inn("float32"), True),
    CnnRecipe: _cnn,
    VitRecipe: _vit,
    PerceiverRecipe: _perceiver,
    TransformerRecipe: _transformer,
}
