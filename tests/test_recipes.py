"""Recipes: settings from text, refusals, and the way to JSON and back."""

import dataclasses

import pytest

from loops import recipes
from loops.data.dataset import Sizes
from loops.recipes.recipe import Recipe
from tfcore.models.cnn import ConvNetConfig
from tfcore.models.inn import InnConfig
from tfcore.optimizers.config import CONFIGS, AdamConfig, AdamWConfig, LambConfig, RmsPropConfig, SgdConfig


def test_published_settings():
    for name in ("inn_cifar10", "convnet_cifar10"):
        recipe = recipes.get(name)
        assert (recipe.epochs, recipe.batch_size) == (20, 256)
        assert recipe.optimizer == AdamConfig(learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-7)


def test_settings_from_text():
    recipe = recipes.get("convnet_cifar10").changed(
        [("epochs", "3"), ("learning_rate", "3e-4"), ("filters", "5,7,11"), ("xla", "on"), ("seed", "-1")]
    )
    assert (recipe.epochs, recipe.optimizer.learning_rate, recipe.xla) == (3, 3e-4, "on")
    assert recipe.model == ConvNetConfig(filters=(5, 7, 11))
    assert recipe.seed == -1 and recipe.name == "convnet_cifar10"
    assert recipes.get("vit_cifar100_best").changed([("stem_filters", "none")]).model.stem_filters == ()


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
    ("monitor", "accuracy"): "monitor must be one of val_accuracy, val_loss, loss",
    ("warmup_steps", "3"): "warmup_steps 3 is for schedule cosine",
    ("decay", "scaled"): "decay is for optimizer adamw or muon, not adam: set optimizer=adamw, or leave decay out",
    ("momentum", "0.9"): "momentum is for optimizer muon or sgd or rmsprop, not adam",
    ("rho", "0.9"): "rho is for optimizer rmsprop, not adam",
    ("optimizer", "adagrad"): "optimizer must be one of adam, adamw, muon, lamb, sgd, rmsprop, got 'adagrad'",
    ("plateau_factor", "0.5"): "plateau_factor 0.5 is for plateau_patience",
    ("model", "other"): "unknown field 'model'",
    ("filters", "32,wide"): "filters must be a whole number, got 'wide'",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_wrong_settings_are_refused_with_a_hint(setting):
    with pytest.raises(ValueError, match=REFUSED[setting]):
        recipes.get("convnet_cifar10").changed([setting])


UNUSED = {
    "cnn_cifar10": {
        "slope=0.2": "slope is for activation leaky_relu, and nothing uses 0.2 here",
        "penalized=all": "both are 0: set one",
    },
    "perceiver_cifar100": {"bands=8": "bands is for positions fourier"},
    "mlp_forda": {"heads=2": "heads is for blocks of at least 1"},
    "vit_cifar100": {"decay=none": "decay must be one of scaled, unscaled, got 'none'"},
}


@pytest.mark.parametrize(("name", "setting"), [(name, setting) for name in UNUSED for setting in UNUSED[name]])
def test_what_the_model_does_not_use_is_refused(name, setting):
    with pytest.raises(ValueError, match=UNUSED[name][setting]):
        recipes.get(name).changed([setting.split("=")])


def test_another_optimizer_keeps_what_both_have():
    vit = recipes.get("vit_cifar100")
    assert vit.changed([("learning_rate", "0.5"), ("optimizer", "sgd")]).optimizer == SgdConfig(learning_rate=0.5)
    assert vit.changed([("optimizer", "rmsprop")]).optimizer == RmsPropConfig()
    assert vit.changed([("optimizer", "lamb")]).optimizer == LambConfig(weight_decay=1e-4, epsilon=1e-7)
    assert vit.changed([("optimizer", "adamw"), ("decay", "scaled")]).optimizer == AdamWConfig(weight_decay=1e-4)


def test_fields_of_other_optimizers_in_an_old_file_change_nothing():
    recipe = recipes.get("convnet_cifar10")
    assert recipe.from_json(recipe.to_json() | {"rho": 0.5, "nesterov": False}) == recipe


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_flat_name_means_one_field(name):
    recipe = recipes.get(name)
    parts = [[field.name for field in dataclasses.fields(part)] for part in (recipe, recipe.model, recipe.mixing)]
    for optimizer in CONFIGS.values():
        names = [*parts[0], *parts[1], *parts[2], *(field.name for field in dataclasses.fields(optimizer))]
        assert len(set(names)) == len(names)


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown recipe 'inn_cifar'; did you mean 'inn_cifar10'\?"):
        recipes.get("inn_cifar")
    with pytest.raises(ValueError, match="does not know: depth"):
        recipes.get("inn_cifar10").from_json({"depth": 3})


def test_the_base_recipe_builds_nothing():
    recipe = Recipe(name="x", dataset="cifar10", epochs=1, batch_size=1, model=InnConfig(), optimizer=AdamConfig())
    with pytest.raises(TypeError, match="builds no model"):
        recipe.build_model(None, Sizes((32, 32, 3), 10))
