"""What each operation adds to the error: float64, made to follow a record tensor by tensor.

The referee computes a step in float64, but wherever a tensor is marked it goes on with the recorded one. So what it
finds at a mark is what that part alone should have given *from the recorded inputs*: the distance is the part's own
error, whatever its inputs brought along. Backward the same: each gradient comes from the recorded gradients behind it,
each parameter's gradient from recorded activations and gradients, the update from the recorded gradients.

What a format explains is measured, not estimated: the referee follows once more with every recorded number and weight
moved at random by up to the format's unit roundoff. A subtraction of nearly equal numbers then moves its result much.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfcore.inspect.numerics.recording import Computation, Notes, Record, Values, as_array, kept, record

# Unit roundoff, and half of the smallest number: below, a number may become 0.
FORMATS = {
    "float64": (2.0**-53, 0.0),
    "float32": (2.0**-24, 2.0**-127),
    "bfloat16": (2.0**-8, 2.0**-127),
    "float16": (2.0**-11, 2.0**-25),
}


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Random relative changes of numbers by up to the unit roundoff of a format; `scale` that of the loss."""

    format: str
    scale: float = 1.0
    seed: int = 0

    def numbers(self) -> np.random.Generator:
        """Return the generator of one run."""
        return np.random.default_rng(self.seed)


def follow(computation: Computation, recorded: Record, rounding: Rounding | None = None) -> Record:
    """Return what a float64 `computation` gives from the recorded numbers; with `rounding`, from these moved a little.

    The computation runs eagerly. Its variables are as before afterwards.
    """
    notes = Notes()
    generator = rounding.numbers() if rounding is not None else None

    def moved(value: np.ndarray, scale: float = 1.0) -> np.ndarray:
        value = np.asarray(value, np.float64)
        if generator is None or rounding is None:
            return value
        unit, least = FORMATS[rounding.format]
        noise = generator.uniform(-1, 1, (2, *value.shape))
        return value * (1 + unit * noise[0]) + (least / scale) * noise[1]

    def mark(name: str, x: tf.Tensor) -> tf.Tensor:
        if name not in recorded.forward or recorded.forward[name].shape != tuple(x.shape):
            return notes.watched(name, x)
        value = tf.constant(moved(recorded.forward[name]), x.dtype)

        def told(gradient: tf.Tensor) -> tf.Tensor:
            found = recorded.backward.get(name)
            if found is None or found.shape != tuple(gradient.shape):
                return gradient
            return tf.constant(moved(found, scale=rounding.scale if rounding else 1.0), gradient.dtype)

        return notes.noted(name, x, value, told)

    trainable = {name: variable for name, variable in computation.variables.items() if variable.trainable}

    def update(gradients: dict[str, tf.Tensor]) -> None:
        """From the recorded gradients and the weights as they were, in the format in which weights are stored."""
        for name, variable in trainable.items():
            variable.assign(before[name])
        stored = FORMATS["float32" if rounding is not None and rounding.format != "float64" else "float64"][0]
        followed = {}
        for name, gradient in gradients.items():
            value = np.asarray(recorded.gradients.get(name, gradient.numpy()), np.float64)
            if generator is not None:
                value = value * (1 + stored * generator.uniform(-1, 1, value.shape))
            followed[name] = tf.constant(value, gradient.dtype)
        computation.update(followed)

    before = {name: variable.numpy() for name, variable in trainable.items()}
    with kept(computation.variables):
        for name, variable in trainable.items():
            variable.assign(moved(before[name]))
        found = notes.step(dataclasses.replace(computation, update=update, scale=1.0), mark)
        after = {name: as_array(variable) for name, variable in computation.variables.items()}
    values: dict[str, Values] = {kind: {n: as_array(x) for n, x in group.items()} for kind, group in found.items()}
    return Record(values["forward"], values["backward"], values["gradients"], after, dict(notes.dtypes))


def shaken(computation: Computation, rounding: Rounding) -> Record:
    """Return what a computation gives from weights moved at random by up to a format's unit roundoff.

    Nothing is followed: what any operation rounds goes on to all that comes after it. The variables are as before
    afterwards.
    """
    generator, unit = rounding.numbers(), FORMATS[rounding.format][0]
    with kept(computation.variables):
        for variable in computation.variables.values():
            if variable.trainable:
                value = variable.numpy()
                variable.assign(value * (1 + unit * generator.uniform(-1, 1, value.shape)))
        return record(dataclasses.replace(computation, xla=None))
