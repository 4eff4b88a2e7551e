"""Recipes: settings from text, refusals, and the way to JSON and back."""

import pytest

from loops import recipes
from loops.data.dataset import Sizes
from loops.recipes.recipe import Recipe


def test_published_settings():
    for name in ("inn_cifar10", "convnet_cifar10"):
        recipe = recipes.get(name)
        assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (20, 256, 1e-3)
        assert (recipe.beta_1, recipe.beta_2, recipe.epsilon) == (0.9, 0.999, 1e-7)


def test_settings_from_text():
    recipe = recipes.get("convnet_cifar10").changed(
        [("epochs", "3"), ("learning_rate", "3e-4"), ("filters", "5,7,11"), ("xla", "on"), ("seed", "-1")]
    )
    assert (recipe.epochs, recipe.learning_rate, recipe.filters, recipe.xla) == (3, 3e-4, (5, 7, 11), "on")
    assert recipe.seed == -1 and recipe.name == "convnet_cifar10"


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_json_round_trip(name):
    changed = recipes.get(name).changed([("seed", "3"), ("data", "sample")])
    assert recipes.get(name).from_json(changed.to_json()) == changed


REFUSED = {
    ("epoch", "3"): r"unknown field 'epoch'.*did you mean 'epochs'\?",
    ("name", "other"): "unknown field 'name'",
    ("epochs", "three"): "epochs must be a whole number, got 'three'",
    ("epochs", "1.5"): "epochs must be a whole number, got '1.5'",
    ("learning_rate", "fast"): "learning_rate must be a number, got 'fast'",
    ("epochs", "0"): "epochs must be at least 1, got 0",
    ("batch_size", "-1"): "batch_size must be at least 1, got -1",
    ("seed", "2147483648"): "seed must fit 32 bits",
    ("precision", "float8"): "precision must be one of float32, mixed_bfloat16, mixed_float16, got 'float8'",
    ("xla", "yes"): "xla must be one of on, off, auto, got 'yes'",
    ("monitor", "accuracy"): "monitor must be one of val_accuracy, val_loss",
    ("warmup_steps", "3"): "warmup_steps 3 is for schedule cosine",
    ("decay", "none"): "decay must be one of scaled, unscaled, got 'none'",
    ("filters", "32,wide"): "filters must be a whole number, got 'wide'",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_wrong_settings_are_refused_with_a_hint(setting):
    with pytest.raises(ValueError, match=REFUSED[setting]):
        recipes.get("convnet_cifar10").changed([setting])


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown recipe 'inn_cifar'; did you mean 'inn_cifar10'\?"):
        recipes.get("inn_cifar")
    with pytest.raises(ValueError, match="does not know: depth"):
        recipes.get("inn_cifar10").from_json({"depth": 3})


def test_the_base_recipe_builds_nothing():
    with pytest.raises(TypeError, match="builds no model"):
        Recipe(name="x", dataset="cifar10", epochs=1, batch_size=1).build_model(None, Sizes((32, 32, 3), 10))
