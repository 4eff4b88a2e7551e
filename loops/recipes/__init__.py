"""All recipes by name. `get` finds one or says which name was meant."""

from loops.recipes.cnn import CNN_CIFAR10, CNN_CIFAR10_BEST
from loops.recipes.inn import CONVNET_CIFAR10, INN_CIFAR10, INN_CIFAR10_BEST
from loops.recipes.perceiver import PERCEIVER_CIFAR100
from loops.recipes.recipe import Recipe, nearest
from loops.recipes.timeseries import MLP_FORDA, TRANSFORMER_FORDA, TRANSFORMER_FORDA_MENDED, TRANSFORMER_SERIES_BEST
from loops.recipes.vit import VIT_CIFAR100, VIT_CIFAR100_BEST, VIT_CIFAR100_BEST_LARGE

_ALL = (
    CONVNET_CIFAR10,
    INN_CIFAR10,
    INN_CIFAR10_BEST,
    VIT_CIFAR100,
    VIT_CIFAR100_BEST,
    VIT_CIFAR100_BEST_LARGE,
    PERCEIVER_CIFAR100,
    TRANSFORMER_FORDA,
    TRANSFORMER_FORDA_MENDED,
    TRANSFORMER_SERIES_BEST,
    MLP_FORDA,
    CNN_CIFAR10,
    CNN_CIFAR10_BEST,
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}


def get(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        ValueError: for an unknown name; the message names the nearest one.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, RECIPES)}")
    return RECIPES[name]
