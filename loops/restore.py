"""Models from recipes and runs: with the weights a training starts from, or with those that it saved."""

from pathlib import Path

from loops import checkpoint
from loops.recipes.recipe import Recipe
from loops.runs import Run
from tfcore import random
from tfcore.module import Module

# Sites of a run's key: one for the starting weights, one for the random layers.
WEIGHTS, LAYERS = 0, 1


def fresh_model(recipe: Recipe, classes: int) -> Module:
    """Return the recipe's model as a training of it finds it before the first step."""
    return recipe.build_model(random.fold_in(random.make_key(recipe.seed), WEIGHTS), classes=classes)


def restored_model(run: Run, classes: int, path: Path | None = None) -> Module:
    """Return the run's model with the weights of the checkpoint `path`, by default those of its best epoch.

    Raises:
        CheckpointError: for a checkpoint that is missing, damaged or of another model.
    """
    if path is None:
        path = run.best
        if not path.exists():
            raise checkpoint.CheckpointError(
                f"{path}: no best checkpoint, no epoch of this run has ended: go on with train.py --resume"
            )
    arrays, _ = checkpoint.load(path)
    model = fresh_model(run.recipe, classes)
    checkpoint.restore({"model": model}, arrays, path)
    return model
