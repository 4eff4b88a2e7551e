"""A recipe's training step computed in two ways: where they part, with float64 as referee."""

import dataclasses
import zlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from loops.data.dataset import Dataset
from loops.devices.distribution import ONE_DEVICE, Devices
from loops.health.divided import record_divided
from loops.learner import Learner
from loops.recipes.recipe import Recipe
from loops.run.restore import LAYERS
from loops.run.runs import device
from tfcore import random
from tfcore.context import part_of_mean
from tfcore.inspect.numerics import divergence
from tfcore.inspect.numerics.recording import Computation, Mark, Record, marked, record
from tfcore.layers.normalization import BatchNorm
from tfcore.precision import POLICIES

# Fields that change how a step is computed and not what. Augmentation is none: "fused" interpolates pixels once where
# "chain" does so after each transform, and the images differ by as much as 0.67 of their largest number.
SAME = ("xla", "precision", "formulation", "devices")


def check_same(a: Recipe, b: Recipe) -> None:
    """Refuse two recipes that do not compute the same.

    Raises:
        ValueError: naming the field and both values.
    """
    left, right = a.to_json(), b.to_json()
    for field in sorted(left.keys() | right.keys()):
        one, two = left.get(field), right.get(field)
        if one != two and field not in SAME:
            raise ValueError(
                f"{field} changes the mathematics (a: {one}, b: {two}): the sides may differ in {', '.join(SAME)} "
                "only; give it to both by --set"
            )


def exact(recipe: Recipe) -> Recipe:
    """Return the recipe with everything in float64."""
    kind = type(type(recipe).__name__, (type(recipe),), {"compute_dtype": tf.float64})
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    return kind(**(fields | {"precision": "float32", "devices": 1}))


class Step:
    """One train step of a recipe on the first examples of its train set, from given weights.

    Raises:
        ValueError: for batch norm on several `devices`, each of which normalizes its own share.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        examples: int,
        weights: dict[str, np.ndarray] | None = None,
        devices: Devices = ONE_DEVICE,
    ):
        self.recipe = recipe
        self.learner = Learner(recipe, dataset, devices if recipe.devices > 1 else ONE_DEVICE)
        self.model = self.learner.model
        norms = [path for path, part in self.model.named_modules().items() if isinstance(part, BatchNorm)]
        if recipe.devices > 1 and norms and not recipe.sync_batch_norm:
            raise ValueError(
                f"devices changes the mathematics here: {norms[0]} normalizes each device's share by itself; give both "
                "sides --set sync_batch_norm=true"
            )
        named = self.model.named_variables()
        for path, value in (weights or {}).items():
            named[path].assign(value)
        split = self.learner.train_split
        self.inputs = tf.constant(split.inputs[:examples])
        self.labels = tf.constant(split.labels[:examples])
        self.key = random.fold_in(random.make_key(recipe.seed), LAYERS)
        self.format = recipe.compute_dtype.name
        loss_scale = self.learner.loss_scale
        self.scale = float(loss_scale.scale.numpy()) if POLICIES[recipe.precision].scaled else 1.0

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The model's variables."""
        return {path: variable.numpy() for path, variable in self.model.named_variables().items()}

    @property
    def start(self) -> dict[str, int]:
        """Checksums of all that the step starts from: weights, in float32, and the batch."""
        weights = 0
        for path, value in self.weights.items():
            weights = zlib.crc32(path.encode() + value.astype(np.float32).tobytes(), weights)
        return {"weights": weights, "batch": zlib.crc32(self.inputs.numpy().tobytes() + self.labels.numpy().tobytes())}

    def computation(self, xla: bool | None, number: int = 0, batch: tuple | None = None) -> Computation:
        """Return the step with the key of a place in the run; `batch`: (inputs, labels), or a share of them."""
        inputs, labels = batch or (self.inputs, self.labels)

        def run(mark: Mark) -> tf.Tensor:
            with marked(self.model, mark):
                key = random.fold_in(self.key, number)
                losses, _ = self.learner.objective.losses(self.model, inputs, labels, key)
            return part_of_mean(tf.reduce_mean(losses))

        optimizer = {f"optimizer/{path}": v for path, v in self.learner.optimizer.named_variables().items()}
        state = {path: v for path, v in optimizer.items() if v.dtype.is_floating and "learning_rate" not in path}
        return Computation(
            run, {**self.model.named_variables(), **state}, _updater(self.learner.optimizer), xla, self.scale
        )

    def record(self) -> Record:
        """Return the step's record, by XLA where the recipe says on, else in TensorFlow's own executor.

        A loss scale is halved, as a training halves it at skipped steps, until all gradients are finite.
        """
        while True:
            found = self._recorded()
            values = [*found.backward.values(), *found.gradients.values()]
            if self.scale <= 1.0 or all(np.isfinite(value).all() for value in values):
                return found
            self.scale /= 2.0

    def _recorded(self) -> Record:
        xla, devices = self.recipe.xla == "on", self.learner.devices
        if devices.replicas == 1:
            return record(self.computation(xla))
        return record_divided(lambda *batch: self.computation(xla, batch=batch), devices, self.inputs, self.labels)


def _updater(optimizer) -> Callable:
    """Apply gradients, and leave the count of steps as it was: a step is recorded as the first one."""

    def update(gradients: dict[str, tf.Tensor]) -> None:
        before = tf.identity(optimizer.iterations)
        optimizer.apply(gradients)
        optimizer.iterations.assign(before)

    return update


@dataclasses.dataclass(frozen=True)
class RecordedStep:
    """One side: a step's record, and what is known about it as JSON values, which `--save` keeps beside it."""

    record: Record
    about: dict


def recorded_step(
    recipe: Recipe,
    dataset: Dataset,
    *,
    examples: int,
    weights: dict[str, np.ndarray],
    devices: Devices = ONE_DEVICE,
) -> RecordedStep:
    """Return the record of a recipe's step from these weights; `devices`: for a recipe of several."""
    step = Step(recipe, dataset, examples, weights, devices)
    record = step.record()
    about = {
        "recipe": recipe.to_json(),
        "start": step.start,
        "format": step.format,
        "scale": step.scale,
        "tensorflow": tf.__version__,
        "processor": device(),
    }
    return RecordedStep(record, about)


def compare_steps(
    a: RecordedStep,
    b: RecordedStep,
    recipe: Recipe,
    dataset: Dataset,
    *,
    examples: int,
    weights: dict[str, np.ndarray],
) -> divergence.Divergence:
    """Return where two recorded steps part; `recipe` is computed in float64 as referee.

    Raises:
        ValueError: for steps that do not compute the same, or started from other weights or batches.
    """
    referee = Step(exact(recipe), dataset, examples, weights)
    for label, side in (("a", a), ("b", b)):
        check_same(recipe.from_json({**side.about["recipe"], "data": recipe.data}), recipe)
        for what, value in referee.start.items():
            if side.about["start"][what] != value:
                theirs = f"{side.about['start'][what]:08x}"
                raise ValueError(
                    f"{label} was recorded from other {what} (checksum {theirs}) than these ({value:08x}): give the "
                    "same --run, --set, --data and --examples"
                )
    return divergence.compare(
        a.record,
        b.record,
        referee.computation(None),
        formats=(a.about["format"], b.about["format"]),
        scales=(a.about["scale"], b.about["scale"]),
        model=referee.model,
    )


def compare_recipes(
    a: Recipe,
    b: Recipe,
    dataset: Dataset,
    *,
    examples: int = 8,
    weights: dict[str, np.ndarray] | None = None,
    devices: Devices = ONE_DEVICE,
) -> divergence.Divergence:
    """Return where the train steps of two recipes part, from the same weights (None: fresh ones), batch and key.

    Raises:
        ValueError: for recipes that do not compute the same.
    """
    check_same(a, b)
    if weights is None:
        weights = Step(a, dataset, examples).weights
    one, two = (
        recorded_step(recipe, dataset, examples=examples, weights=weights, devices=devices) for recipe in (a, b)
    )
    return compare_steps(one, two, a, dataset, examples=examples, weights=weights)
