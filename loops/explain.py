"""Which layers of a recipe compute in which dtype, from a train step that is traced and never run."""

import tensorflow as tf

from loops.data.dataset import Sizes
from loops.diagnostics import Diagnostics
from loops.optimizers import make_optimizer
from loops.recipes.recipe import Recipe
from loops.restore import fresh_model
from loops.steps import Metrics, make_train_step
from tfcore import random
from tfcore.inspect.dtypes import Row, dtype_rows
from tfcore.precision import POLICIES, LossScale

BATCH = 2


def explain(recipe: Recipe, sizes: Sizes) -> list[Row]:
    """Return the rows of `tfcore.inspect.dtypes` for the recipe's train step on a small batch of zeros.

    Raises:
        ValueError: for what the recipe's model or optimizer refuses.
    """
    model = fresh_model(recipe, sizes)
    step = make_train_step(
        model,
        make_optimizer(recipe, model.named_trainable_variables()),
        Metrics(recipe.top_k),
        key=random.make_key(recipe.seed),
        loss_scale=LossScale() if POLICIES[recipe.precision].scaled else None,
        penalty=lambda: recipe.penalty(model),
        diagnostics=Diagnostics(model) if recipe.diagnostics else None,
        pixel_scale=recipe.pixel_scale,
    )
    inputs = tf.zeros((BATCH, *sizes.input_shape), sizes.input_dtype)
    labels, number = tf.zeros([BATCH], tf.int32), tf.zeros([], tf.int64)
    return dtype_rows(model, lambda: step.get_concrete_function(inputs, labels, number).graph)
