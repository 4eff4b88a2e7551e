"""A float32 training step of every recipe as XLA compiles it for users, in a process without the flags of the tests.

python -m tests.support.full_effort FOLDER

FOLDER/RECIPE.npz gets what `one_step` returns.
"""

import sys
from pathlib import Path

import numpy as np

from loops import recipes
from loops.made_up import made_up_dataset, made_up_step
from tests.support.tiny import TINY


def one_step(name: str, *, xla: bool) -> dict[str, np.ndarray]:
    """The loss, and the optimizer's slots, of a tiny recipe's first step: its gradients before Adam divides by them."""
    settings = ("batch_size=5", "precision=float32", *TINY[name])
    recipe = recipes.get(name).changed([setting.split("=") for setting in settings])
    step, arguments, learner = made_up_step(recipe, made_up_dataset(recipe), xla=xla)
    assert step(*arguments), name
    slots = {
        f"{slot}/{path}": variable.numpy()
        for slot in learner.optimizer.slots
        for path, variable in getattr(learner.optimizer, slot).items()
    }
    return {"loss": np.asarray(learner.metrics.result()["loss"]), **slots}


if __name__ == "__main__":
    for name in recipes.RECIPES:
        np.savez(Path(sys.argv[1]) / f"{name}.npz", **one_step(name, xla=True))
