"""All recipes by name. `get` finds one or says which name was meant."""

from loops.recipes.inn import CONVNET_CIFAR10, INN_CIFAR10
from loops.recipes.perceiver import PERCEIVER_CIFAR100
from loops.recipes.recipe import Recipe, nearest
from loops.recipes.vit import VIT_CIFAR100

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (CONVNET_CIFAR10, INN_CIFAR10, VIT_CIFAR100, PERCEIVER_CIFAR100)
}


def get(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        ValueError: for an unknown name; the message names the nearest one.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, RECIPES)}")
    return RECIPES[name]
