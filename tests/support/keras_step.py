"""A Keras model's train step taken apart and set beside ours: what `tfcore.inspect` can say of any tf.function.

python -m tests.support.keras_step                         the convolution network of convnet_cifar10, batch 8
python -m tests.support.keras_step inn_cifar10             another recipe that has a Keras twin
"""

import sys

import tensorflow as tf

from loops import recipes
from loops.made_up import made_up_dataset, made_up_step
from loops.objective import to_floats
from loops.recipes.recipe import Recipe
from tests.catalog.published import published
from tfcore.inspect.profile.comparison import Form, comparison_text
from tfcore.inspect.profile.compiler import inspect_step


def forms(recipe: Recipe) -> list[Form]:
    """Return the recipe's train step and that of the published Keras model, as XLA compiles them."""
    dataset = made_up_dataset(recipe)
    ours, arguments, _ = made_up_step(recipe, dataset, xla=True)

    model = published(recipe, dataset.sizes, dataset.train.inputs)
    step = tf.function(lambda x, y: model.train_step((x, y)), jit_compile=True, autograph=False)
    inputs = to_floats(tf.constant(dataset.train.inputs), recipe.pixel_scale)
    theirs = step, (inputs, tf.constant(dataset.train.labels))

    found = {"ours": (ours, arguments), "Keras": theirs}
    return [Form(label, inspect_step(function, *values)) for label, (function, values) in found.items()]


def describe(found: list[Form], title: str) -> str:
    """Return the heaviest kernels of each, and all side by side."""
    lines = []
    for form in found:
        lines.append(f"{form.label}: the kernels with the most arithmetic")
        lines += [f"  {kernel.flops / 1e6:8.2f} MFLOP  {kernel}" for kernel in form.report.top("flops", 6)]
    return "\n".join([*lines, "", comparison_text(found, title)])


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "convnet_cifar10"
    recipe = recipes.get(name).changed([("batch_size", "8")])
    print(describe(forms(recipe), f"{name}, train step, batch 8"), end="")
