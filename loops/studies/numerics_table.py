"""A healthy step of every recipe in two ways: how far both lie from float64, where most, and how they part."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from loops import data, recipes
from loops.devices.distribution import Devices
from loops.health.divergence import Step, compare_recipes
from loops.health.growth import measure_growth
from loops.recipes.recipe import Recipe
from tfcore.inspect.numerics.divergence import NOISE, Divergence, Tensor
from tfcore.inspect.numerics.referee import FORMATS

# Small sizes, for XLA compiles seconds a step of each and the referee goes over it tensor by tensor.
SIZES = {
    "convnet_cifar10": ["filters=5,7,11", "units=13"],
    "cnn_cifar10": ["filters=5,7,11", "units=13", "batch_norm=after", "dropout=0.3"],
    "inn_cifar10_best": [
        *("widths=4,6", "blocks=1,2", "mlp_widths=5,7", "kernel_sizes=3,3", "groups=2,3", "bottlenecks=1,2"),
    ],
    "cnn_cifar10_best": ["widths=5,7", "blocks=1,2"],
    "vit_cifar100_best": [
        *("image_size=16", "stem_filters=5", "width=12", "blocks=2", "key_dim=5", "mlp_width=11"),
        "warmup_steps=704",  # of the made-up set's 1,740
    ],
    "vit_cifar100_best_large": ["image_size=16", "width=12", "blocks=2", "heads=2", "key_dim=5", "mlp_width=11"],
    "transformer_series_best": ["kernels=5,11", "stem_filters=3", "filters=5,12", "heads=3", "mlp_width=13"],
    "vit_cifar100": ["image_size=24", "width=12", "blocks=2", "heads=2", "mlp_width=20", "head_units=24,12"],
    "perceiver_cifar100": ["image_size=16", "width=12", "latents=7", "blocks=2", "heads=2"],
    "transformer_forda": ["blocks=1", "heads=2", "key_dim=8", "head_units=12"],
    "transformer_forda_mended": ["width=12", "blocks=1", "heads=2"],
}
FORMULATIONS = {
    "inn_cifar10": ("factored", "shifted"),
    "inn_cifar10_best": ("factored", "shifted"),
    "vit_cifar100": ("direct", "folded"),
    "perceiver_cifar100": ("direct", "folded"),
    "transformer_forda": ("direct", "folded"),
    "transformer_forda_mended": ("direct", "folded"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One pair: errors are shares of a tensor's largest number in float64, of the side that is further away.

    Attributes:
        forward, backward: the largest error of an output, and of a gradient.
        forward_at, backward_at: whose; tensors that are zero but for rounding are left out.
        explained: the largest own error of a part in units of what its format explains; above 1 it is a fault.
        growth: of the weights' distance, a step.
    """

    recipe: str
    a: str
    b: str
    forward: float
    forward_at: str
    backward: float
    backward_at: str
    explained: float
    growth: float


def pairs(recipe: str) -> Iterator[tuple[str, str]]:
    """The settings that are compared, each beside the other."""
    yield "xla=off", "xla=on"
    yield "precision=float32", "precision=mixed_bfloat16"
    yield "precision=float32", "precision=mixed_float16"
    if not recipes.get(recipe).mixing.mixes:  # which pairs the examples of a batch: devices may not divide it
        yield "devices=1", "devices=2"
    if recipe in FORMULATIONS:
        one, other = FORMULATIONS[recipe]
        yield f"formulation={one}", f"formulation={other}"


def compared(name: str) -> Recipe:
    """Return a recipe in the size in which it is compared."""
    settings = [("data", "sample"), ("xla", "off"), ("sync_batch_norm", "true"), ("precision", "float32")]
    return recipes.get(name).changed([*settings, *map(_pair, SIZES.get(name, []))])


def rows(names: list[str], devices: Devices, *, steps: int, examples: int) -> Iterator[Row]:
    """Yield a row for each pair of each recipe, on made-up data; `devices`: two, that synchronize batch norms."""
    for name in names:
        recipe = compared(name)
        dataset = data.of_recipe(recipe)
        weights = Step(recipe, dataset, examples).weights
        for a, b in pairs(name):
            one, other = (recipe.changed([_pair(side)]) for side in (a, b))
            found = compare_recipes(one, other, dataset, examples=examples, weights=weights, devices=devices)
            growth = measure_growth(
                one, other, dataset, steps=steps, examples=examples, weights=weights, devices=devices
            )
            yield row_of(name, a, b, found, growth.rate)


def _pair(text: str) -> tuple[str, str]:
    field, _, value = text.partition("=")
    return field, value


def row_of(name: str, a: str, b: str, found: Divergence, growth: float) -> Row:
    """Return what a comparison comes to."""
    forward = [tensor for tensor in found.tensors if tensor.kind == "forward"]
    backward = [tensor for tensor in found.tensors if tensor.kind in ("backward", "gradients")]
    first, second = (max(own, key=lambda tensor: _error(tensor, found.formats)) for own in (forward, backward))
    explained = max(side.own / side.explained for tensor in found.tensors for side in (tensor.a, tensor.b))
    return Row(
        name,
        a,
        b,
        forward=_error(first, found.formats),
        forward_at=first.name,
        backward=_error(second, found.formats),
        backward_at=second.name,
        explained=explained,
        growth=growth,
    )


def _error(tensor: Tensor, formats: tuple[str, str]) -> float:
    """The larger of both sides' errors; 0 of a tensor that is zero but for rounding."""
    sides = zip((tensor.a, tensor.b), formats, strict=True)
    if any(max(side.amplification * FORMATS[format][0], side.own, side.explained) >= NOISE for side, format in sides):
        return 0.0
    return float(np.nan_to_num(max(tensor.a.error, tensor.b.error), nan=np.inf))
