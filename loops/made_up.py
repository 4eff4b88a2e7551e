"""A recipe's step on made-up data: what benchmarks time and what the compiler's report takes apart."""

import dataclasses

import numpy as np
import tensorflow as tf

from loops.data.dataset import Dataset, Split
from loops.learner import Learner
from loops.recipes.recipe import Recipe
from loops.run.restore import sizes_of
from loops.steps import Step


def made_up_dataset(recipe: Recipe) -> Dataset:
    """Return one batch of random inputs and labels in the sizes of the recipe's data, as train and as test split.

    Raises:
        DataError: for a set that only its files tell about, if they cannot be read.
    """
    sizes = sizes_of(recipe)
    rng = np.random.default_rng(0)
    shape = (recipe.batch_size, *sizes.input_shape)
    pixels = sizes.input_dtype == np.uint8
    inputs = rng.integers(0, 256, shape, np.uint8) if pixels else rng.standard_normal(shape).astype(sizes.input_dtype)
    split = Split(inputs, rng.integers(0, sizes.classes, recipe.batch_size).astype(np.int32))
    return Dataset(recipe.dataset, split, split, tuple(map(str, range(sizes.classes))), "made up")


def made_up_step(recipe: Recipe, dataset: Dataset, *, kind: str = "train", xla: bool) -> tuple[Step, tuple, Learner]:
    """Return (the recipe's train or eval step, its arguments for the made-up batch, the learner that it changes).

    Raises:
        ValueError: for what the recipe's model or optimizer refuses.
    """
    # What the step computes depends neither on how the set is split nor on how long the run is.
    alone = dataclasses.replace(
        recipe, validation=0.0, hold_test=False, train_examples=None, schedule="constant", warmup_steps=0
    )
    learner = Learner(alone, dataset)
    batch = tf.constant(dataset.train.inputs), tf.constant(dataset.train.labels)
    if kind == "eval":
        return learner.evaluation_step(xla=xla), batch, learner
    return learner.train_step(xla=xla), (*batch, tf.constant(0, tf.int64)), learner
