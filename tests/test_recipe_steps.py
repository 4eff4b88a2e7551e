"""One training step of every recipe, in tiny sizes: what `pytest -m quick` has of the loop."""

import numpy as np
import pytest

from loops import recipes
from loops.made_up import made_up_dataset, made_up_step
from tests.catalog.models import WITHOUT_EFFECT
from tests.support.tiny import TINY


@pytest.mark.quick
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_step_moves_the_weights(name):
    recipe = recipes.get(name).changed([setting.split("=") for setting in ("batch_size=5", *TINY[name])])
    step, arguments, learner = made_up_step(recipe, made_up_dataset(recipe), xla=False)
    before = {path: variable.numpy() for path, variable in learner.model.named_trainable_variables().items()}
    assert step(*arguments)
    assert np.isfinite(learner.metrics.result()["loss"])
    after = learner.model.named_trainable_variables()
    still = [path for path, value in before.items() if np.array_equal(value, after[path])]
    still = [path for path in still if not path.endswith(WITHOUT_EFFECT)]
    # The faithful time-series Transformer's norms over one feature let no gradient through: see tests/test_audit.py.
    dead = [path for path in still if path.startswith("blocks/")]
    assert still == (dead if name == "transformer_forda" else [])
