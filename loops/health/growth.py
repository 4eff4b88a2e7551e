"""How the weights of two trainings that should be one move apart, step by step: chaos or drift."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from loops.data.dataset import Dataset
from loops.devices.distribution import ONE_DEVICE, Devices
from loops.learner import Learner
from loops.recipes.recipe import Recipe

# From its middle to its end a drift of any usual kind (√n, n, n²) grows at most fourfold; chaos goes on multiplying.
DRIFT = 4.0


@dataclasses.dataclass(frozen=True)
class Growth:
    """distances: of the weights after each step, as a share of their norm; rate: its growth a step, 1 without any."""

    distances: list[float]
    rate: float
    sentence: str


def measure_growth(
    a: Recipe,
    b: Recipe,
    dataset: Dataset,
    *,
    steps: int,
    examples: int,
    weights: dict[str, np.ndarray],
    devices: Devices = ONE_DEVICE,
) -> Growth:
    """Return how two trainings part over `steps` steps of `examples`, from the same weights, batches and key."""
    learners = [
        Learner(
            dataclasses.replace(recipe, batch_size=examples), dataset, devices if recipe.devices > 1 else ONE_DEVICE
        )
        for recipe in (a, b)
    ]
    for learner in learners:
        for path, variable in learner.model.named_variables().items():
            variable.assign(weights[path])
    run = [learner.train_step(xla=recipe.xla == "on") for learner, recipe in zip(learners, (a, b), strict=True)]
    split, distances = learners[0].train_split, []
    for number in range(steps):
        rows = (np.arange(examples) + number * examples) % len(split)
        labels, count = tf.constant(split.labels[rows]), tf.constant(number, tf.int64)
        for step, learner in zip(run, learners, strict=True):
            step(learner.devices.place(split.inputs[rows]), labels, count)
        one, two = (_flat(learner) for learner in learners)
        distances.append(float(np.linalg.norm(one - two) / np.linalg.norm(one)))
    return growth_of(distances)


def growth_of(distances: list[float]) -> Growth:
    """Return the rate, and what it means, of distances after 1, 2, ... steps.

    The rate is that of the second half, from the first distance in it that is not 0: the first half is on its way.
    """
    later = [
        (step, distance) for step, distance in enumerate(distances) if step >= len(distances) // 2 and distance > 0
    ]
    if not later:
        return Growth(distances, 1.0, "bit-equal weights after all steps")
    (first, begin), (last, end) = later[0], later[-1]
    factor = end / begin
    rate = factor ** (1 / (last - first)) if last > first else 1.0
    if not math.isfinite(factor):
        return Growth(distances, math.nan, "the weights are not finite")
    kind = "chaos, the distance multiplies" if factor > DRIFT else "drift, the distance does not multiply"
    sentence = f"{kind}: {end:.2g} of the weights after {len(distances)} steps, times {rate:.2f} a step"
    return Growth(distances, rate, sentence)


def _flat(learner: Learner) -> np.ndarray:
    variables = learner.model.named_trainable_variables().values()
    return np.concatenate([variable.numpy().astype(np.float64).ravel() for variable in variables])
