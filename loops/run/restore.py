"""Models from recipes and runs: with the weights a training starts from, or with those that it saved."""

from pathlib import Path

import numpy as np

from loops import data
from loops.data.dataset import Sizes
from loops.recipes.recipe import Recipe
from loops.run import checkpoint
from loops.run.runs import Run
from tfcore import random
from tfcore.module import Module

# Sites of a run's key: one for the starting weights, one for the random layers.
WEIGHTS, LAYERS = 0, 1
AVERAGE = "average"  # the part of a checkpoint that holds the average of the weights


def sizes_of(recipe: Recipe, run: Run | None = None) -> Sizes:
    """Return the sizes of the data that a run was trained on, or that a recipe names.

    Raises:
        ValueError: if the run's training never began.
        DataError: for a set that only its files tell about, if they cannot be read.
    """
    if run is not None:
        return run.sizes()
    if recipe.dataset in data.SIZES:
        return data.SIZES[recipe.dataset]
    return data.of_recipe(recipe).sizes


def fresh_model(recipe: Recipe, sizes: Sizes) -> Module:
    """Return the recipe's model as a training of it finds it before the first step."""
    return recipe.build_model(random.fold_in(random.make_key(recipe.seed), WEIGHTS), sizes)


def restored_model(run: Run, path: Path | None = None) -> Module:
    """Return the run's model with the weights of the checkpoint `path`, by default those of its best epoch.

    Of a recipe that averages its weights these are the average, which was validated.

    Raises:
        ValueError: if the training never began.
        CheckpointError: for a checkpoint that is missing, damaged or of another model.
    """
    sizes = run.sizes()
    if path is None:
        path = run.best
    if path == run.best and not path.exists():
        raise checkpoint.CheckpointError(
            f"{path}: no best checkpoint, no epoch of this run has ended: go on with train.py --resume"
        )
    arrays, _ = checkpoint.load(path)
    model = fresh_model(run.recipe, sizes)
    restore_weights(run.recipe, model, arrays, path)
    return model


def restore_weights(recipe: Recipe, model: Module, arrays: dict[str, np.ndarray], path: Path) -> None:
    """Give a model the weights of a checkpoint that are evaluated: the average where the recipe keeps one.

    Raises:
        CheckpointError: for a checkpoint of another model.
    """
    checkpoint.restore({"model" if recipe.average_decay is None else AVERAGE: model}, arrays, path)
