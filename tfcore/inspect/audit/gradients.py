"""What training sends to each variable: its gradients over a few batches, with dropout on.

Glossary: B batch. RMS: root of the mean square over all elements (of a gradient: over all batches, too).
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfcore import random
from tfcore.module import Module
from tfcore.precision import statistics_dtype

Batch = tuple[tf.Tensor, tf.Tensor]  # inputs (B, ...) as the model takes them, labels (B,)
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # labels (B,), logits (B, classes) -> (B,)


@dataclasses.dataclass
class Gradient:
    """One variable's gradients over all batches.

    Attributes:
        path, shape: of the variable.
        weight_rms: of the variable itself.
        rms: of the gradients; None where no path at all leads from the variable to the loss.
        zero_share: of the elements, those whose gradient is exactly zero in every batch.
        finite: whether no element is ever NaN or infinite.
        constant: whether all batches gave the very same, non-zero gradient.
    """

    path: str
    shape: tuple[int, ...]
    weight_rms: float
    rms: float | None = None
    zero_share: float = 1.0
    finite: bool = True
    constant: bool = False

    @property
    def parameters(self) -> int:
        """How many numbers the variable holds."""
        return math.prod(self.shape)

    @property
    def none(self) -> bool:
        """Whether nothing ever reaches the variable: no gradient, or exact zeros in every batch."""
        return self.zero_share == 1.0

    @property
    def relative(self) -> float | None:
        """The gradient's RMS in units of the weight's, where both exist."""
        return self.rms / self.weight_rms if self.rms is not None and self.weight_rms > 0 else None


def gradients_of_batch(model: Module, batch: Batch, loss: Loss, *, key: tf.Tensor) -> dict[str, np.ndarray | None]:
    """Return the gradient of the mean loss for each trainable variable by path; None where there is no path.

    The model runs in training mode with `key`, and keeps its statistics as they were.
    """
    inputs, labels = batch
    variables = model.named_trainable_variables()
    with kept_statistics(model), tf.GradientTape() as tape:
        logits = model(inputs, training=True, key=key)  # (B, classes)
        total = tf.reduce_mean(loss(labels, tf.cast(logits, statistics_dtype(logits.dtype))))
    found = tape.gradient(total, list(variables.values()))
    return {
        path: None if gradient is None else tf.convert_to_tensor(gradient).numpy()
        for path, gradient in zip(variables, found, strict=True)
    }


def measure_gradients(model: Module, batches: Sequence[Batch], loss: Loss, *, key: tf.Tensor) -> dict[str, Gradient]:
    """Return what each trainable variable, by path, is told by the batches; batch i has the key fold_in(key, i)."""
    result = {
        path: Gradient(path, tuple(variable.shape), rms(variable.numpy()))
        for path, variable in model.named_trainable_variables().items()
    }
    squares, touched, first = dict.fromkeys(result, 0.0), {}, {}
    for number, batch in enumerate(batches):
        for path, gradient in gradients_of_batch(model, batch, loss, key=random.fold_in(key, number)).items():
            if gradient is None:
                continue
            entry = result[path]
            entry.finite &= bool(np.isfinite(gradient).all())
            squares[path] += np.square(gradient, dtype=np.float64).sum()
            touched[path] = touched.get(path, False) | (gradient != 0)
            if number == 0:
                first[path], entry.constant = gradient, len(batches) > 1
            else:
                entry.constant &= path in first and np.array_equal(gradient, first[path])
    for path, mask in touched.items():
        entry = result[path]
        entry.rms = math.sqrt(squares[path] / (max(mask.size, 1) * len(batches)))
        entry.zero_share = 1.0 - np.count_nonzero(mask) / max(mask.size, 1)
        entry.constant &= not entry.none
    return result


@contextlib.contextmanager
def kept_statistics(model: Module) -> Iterator[None]:
    """Put back what training mode changes besides gradients: the variables that are not trained."""
    saved = [(variable, variable.numpy()) for variable in model.named_variables().values() if not variable.trainable]
    try:
        yield
    finally:
        for variable, value in saved:
            variable.assign(value)


def rms(values: np.ndarray) -> float:
    """Return the root mean square of an array of any shape, in float64."""
    return float(np.sqrt(np.square(values, dtype=np.float64).mean())) if values.size else 0.0
