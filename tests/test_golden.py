"""Run folders that earlier versions wrote are read, and gone on with to the same numbers.

`tests/golden` has one of each recipe: recipe, environment, the history of two epochs, the checkpoint after the first.
They stay as they are; a new kind of run folder gets a new one beside them. Commit e8ec9a1, and for a newer recipe the
one that its environment.json names, made them by

    python scripts/train.py RECIPE --data sample --epochs 2 --xla off --batch-size 16 --set train_examples=40
        --set validation=0.2 --out tests/golden/RECIPE

and the settings that `recipe.json` shows.
"""

import shutil
from pathlib import Path

import pytest

from loops import data
from loops.run import checkpoint
from loops.run.restore import restored_model
from loops.run.runs import Run
from loops.train import train

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.parent.name for path in GOLDEN.glob("*/recipe.json"))
# Another processor adds up in another order; a batch or two later the loss shows it in the digits of its format.
TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 1e-2, "mixed_float16": 1e-2}


def _copy(name, folder):
    shutil.copytree(GOLDEN / name, folder)
    return Run.open(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_before_goes_on_to_the_same_epoch(name, tmp_path):
    run = _copy(name, tmp_path / name)
    recipe, (_, then) = run.recipe, run.read_history()
    dataset = data.load(recipe.dataset, recipe.data)
    train(run, dataset, resume=True)
    now = run.read_history()[1]
    compared = [column for column in then if column.endswith("loss") or column == "learning_rate"]
    assert {"loss", "val_loss", "learning_rate"} <= set(compared)
    for column in compared:
        assert now[column] == pytest.approx(then[column], rel=TOLERANCE[recipe.precision]), column


def test_every_recipe_has_a_golden_run():
    from loops import recipes

    assert sorted(recipes.RECIPES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_of_before_are_read(name, tmp_path):
    run = _copy(name, tmp_path / name)
    path, arrays, _, _ = checkpoint.newest_intact(run.checkpoints)
    model = restored_model(run, path)
    kept = [array for array in arrays if array.startswith("model/")]
    assert sorted(kept) == sorted(f"model/{path}" for path in model.named_variables())
