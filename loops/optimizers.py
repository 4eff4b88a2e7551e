"""The optimizer that a recipe describes."""

import tensorflow as tf

from loops.recipes.recipe import Recipe
from tfcore.optimizers.optimizer import Adam, AdamW, Lamb, Optimizer, RmsProp, Sgd


def make_optimizer(recipe: Recipe, variables: dict[str, tf.Variable]) -> Optimizer:
    """Return the recipe's optimizer for these variables.

    Raises:
        ValueError: for rates that the optimizer refuses.
    """
    common = {"learning_rate": recipe.learning_rate, "clip_norm": recipe.clip_norm}
    if recipe.optimizer == "sgd":
        return Sgd(variables, momentum=recipe.momentum, nesterov=recipe.nesterov, **common)
    if recipe.optimizer == "rmsprop":
        settings = {"rho": recipe.rho, "momentum": recipe.momentum, "centered": recipe.centered}
        return RmsProp(variables, epsilon=recipe.epsilon, **settings, **common)
    common |= {"beta_1": recipe.beta_1, "beta_2": recipe.beta_2, "epsilon": recipe.epsilon}
    if recipe.optimizer == "adamw":
        return AdamW(variables, weight_decay=recipe.weight_decay, decay=recipe.decay, **common)
    if recipe.optimizer == "lamb":
        return Lamb(variables, weight_decay=recipe.weight_decay, **common)
    return Adam(variables, **common)
