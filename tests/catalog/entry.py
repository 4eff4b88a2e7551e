"""What an entry of the catalog is: one thing of ours beside its reference, and how far apart the two are."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Largest relative error of values, and of gradients and k training steps.
TOLERANCES = {"float32": (1e-5, 1e-4), "float64": (1e-10, 1e-10)}


@dataclasses.dataclass(frozen=True)
class Case:
    """Two functions of the same inputs at one dtype; paired variables start equal.

    Floating-point inputs and the variables are differentiated, unless `differentiable` is False. `steps`, where there
    is one, trains both sides for some steps and returns the paired results (losses, weights). `masked`: the output has
    zeros where a random mask says so, and they must be the same elements in every mode.
    """

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    variables: Sequence[tuple[tf.Variable, tf.Variable]] = ()
    differentiable: bool = True
    steps: Callable[[], list[tuple[Any, Any]]] | None = None
    masked: bool = False


@dataclasses.dataclass(frozen=True)
class Entry:
    """A named comparison. `proves` lists the public functions and classes that it covers."""

    name: str
    proves: tuple[Callable, ...]
    case: Callable[[tf.DType], Case]


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Relative errors of one entry at one dtype; None where there is nothing to compare."""

    name: str
    dtype: str
    values: float
    gradients: float | None
    steps: float | None
    tolerance: float
    ok: bool


def certify(entry: Entry, dtype: str) -> Certificate:
    """Compare values, gradients and training steps of an entry with its reference."""
    case = entry.case(tf.as_dtype(dtype))
    ours, our_gradients = evaluate(case, case.ours, [pair[0] for pair in case.variables])
    theirs, their_gradients = evaluate(case, case.theirs, [pair[1] for pair in case.variables])
    values = relative_error(zip(ours, theirs, strict=True))
    gradients = relative_error(zip(our_gradients, their_gradients, strict=True)) if case.differentiable else None
    steps = relative_error(case.steps()) if case.steps else None
    for_values, for_others = TOLERANCES[dtype]
    ok = values <= for_values and all(error is None or error <= for_others for error in (gradients, steps))
    return Certificate(entry.name, dtype, values, gradients, steps, for_values, ok)


def evaluate(
    case: Case,
    function: Callable,
    variables: list[tf.Variable],
    mode: Callable[[Callable], Callable] = lambda function: function,
) -> tuple[list, list]:
    """Return the outputs of `function` and the gradients of a random weighting of them, all of it run in a mode."""
    rng = np.random.default_rng(2)

    def run(*inputs):
        sources = [x for x in inputs if x.dtype.is_floating] + variables
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = tf.nest.flatten(function(*inputs))
            if not case.differentiable:
                return outputs, []
            # Each output element gets its own weight, so that no two gradients can be swapped unseen.
            weights = [tf.constant(rng.standard_normal(y.shape), y.dtype) for y in outputs]
            total = tf.add_n([tf.reduce_sum(w * y) for w, y in zip(weights, outputs, strict=True)])
        # Zeros for what an output does not depend on: the reference's gradient must then be zero, too.
        gradients = tape.gradient(total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return outputs, [tf.convert_to_tensor(gradient) for gradient in gradients]

    return mode(run)(*(tf.constant(value) for value in case.inputs))


def relative_error(pairs) -> float:
    """Largest |a − b| over all pairs, each relative to the largest |b| of its pair.

    A pair that is zero in exact arithmetic (the gradient of a bias in front of a batch norm, say) holds nothing but
    rounding; so a pair's scale is at least a thousandth of the largest of all pairs.
    """
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    for a, b in pairs:
        if a.shape != b.shape:
            raise AssertionError(f"shapes differ: ours {a.shape}, theirs {b.shape}")
        if not np.isfinite(a).all() or not np.isfinite(b).all():
            return float("inf")
    scales = [np.abs(b).max(initial=0) for _, b in pairs]
    floor = max(1e-3 * max(scales), np.finfo(np.float64).tiny)
    return float(
        max(np.abs(a - b).max(initial=0) / max(scale, floor) for (a, b), scale in zip(pairs, scales, strict=True))
    )


def random_array(shape: tuple[int, ...], dtype: tf.DType, seed: int = 0) -> np.ndarray:
    """Standard normal numbers, the same for every dtype."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype.as_numpy_dtype)
