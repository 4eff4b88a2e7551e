"""Which layers of a recipe compute in which dtype, from a train step that is traced and never run."""

import dataclasses

from loops.made_up import made_up_dataset, made_up_step
from loops.recipes.recipe import Recipe
from tfcore.inspect.graph.dtypes import LayerDtypes, dtype_rows

BATCH = 2


def explain(recipe: Recipe) -> list[LayerDtypes]:
    """Return the rows of `tfcore.inspect.graph.dtypes` for the recipe's train step on a small made-up batch.

    Raises:
        ValueError: for what the recipe's model or optimizer refuses.
        DataError: for a set that only its files tell about, if they cannot be read.
    """
    recipe = dataclasses.replace(recipe, batch_size=BATCH, devices=1, workers=1)  # each of several does the same
    step, arguments, learner = made_up_step(recipe, made_up_dataset(recipe), xla=False)
    return dtype_rows(learner.model, lambda: step.get_concrete_function(*arguments).graph)
