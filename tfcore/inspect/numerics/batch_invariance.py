"""Whether an example's numbers depend on who else is in its batch: bit-equal or not, and by how much, per layer."""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf

from tfcore.context import for_xla
from tfcore.inspect.numerics.recording import as_array, marked
from tfcore.module import Module

PLACES = ("alone", "at another place", "in a smaller batch")


@dataclasses.dataclass(frozen=True)
class Invariance:
    """By how much an example's output of one call differs from that in the batch, in each of PLACES.

    Shares of its largest number; 0 is bit-equal.
    """

    name: str
    distances: dict[str, float]


def batch_invariance(model: Module, inputs: tf.Tensor, *, xla: bool) -> list[Invariance]:
    """Return, call by call in inference, how far the first of `inputs` (B, ...) depends on its batch.

    Beside the batch itself it is computed alone, at the batch's last place, and in a batch of half the size. Calls
    whose output has no axis of examples, such as a table of positions, are left out.

    Raises:
        ValueError: for fewer than 4 examples.
    """
    batch = inputs.shape[0]
    if batch < 4:
        raise ValueError(f"batch invariance needs at least 4 examples, got {batch}")
    home = _outputs(model, inputs, xla)
    rolled = tf.concat([inputs[1:], inputs[:1]], axis=0)
    others = {
        PLACES[0]: (_outputs(model, inputs[:1], xla), 1, 0),
        PLACES[1]: (_outputs(model, rolled, xla), batch, batch - 1),
        PLACES[2]: (_outputs(model, inputs[: batch // 2], xla), batch // 2, 0),
    }
    result = []
    for name, values in home.items():
        if not all(
            _of_examples(outputs.get(name), count) for outputs, count, _ in [(home, batch, 0), *others.values()]
        ):
            continue
        mine = values[0].astype(np.float64)
        size = float(np.abs(mine).max(initial=0.0)) or 1.0
        distances = {
            place: float(np.abs(outputs[name][row] - mine).max(initial=0.0)) / size
            for place, (outputs, _, row) in others.items()
        }
        result.append(Invariance(name, distances))
    return result


def _of_examples(values: np.ndarray | None, batch: int) -> bool:
    return values is not None and values.ndim > 0 and len(values) == batch


def _outputs(model: Module, inputs: tf.Tensor, xla: bool) -> dict[str, np.ndarray]:
    names: list[str] = []

    @tf.function(jit_compile=xla, autograph=False)
    def run(inputs: tf.Tensor) -> list[tf.Tensor]:
        graph, found = tf.compat.v1.get_default_graph(), {}

        def mark(name: str, x: tf.Tensor) -> tf.Tensor:
            x = tf.convert_to_tensor(x)
            if x.graph is graph:  # not inside of a loop
                found[name] = x
            return x

        with for_xla() if xla else contextlib.nullcontext(), marked(model, mark):
            model(inputs, training=False)
        names[:] = found
        return list(found.values())

    values = run(inputs)
    return {name: as_array(value) for name, value in zip(names, values, strict=True)}
