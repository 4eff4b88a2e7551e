"""The compiled inner step: forward, tape, loss, loss scale, update, metrics, all in one `tf.function`.

It is written as two parts: what is computed from examples, and what is done with it. On one device they follow each
other. Where several devices divide a batch, each computes its share, the parts are summed over all, and each does the
same with the sum (`loops/devices/distribution.py`).
"""

import contextlib
import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from loops.devices.distribution import ONE_DEVICE, Devices
from loops.health.diagnostics import Diagnostics
from loops.objective import OBJECTIVE, Objective, Penalty, no_penalty, to_floats, with_penalty
from tfcore import random
from tfcore.context import for_xla, part_of_mean
from tfcore.layers.normalization import BatchNorm
from tfcore.module import Module
from tfcore.ops.losses import accuracy, cross_entropy_from_logits, top_k_accuracy
from tfcore.optimizers.average import update_average
from tfcore.optimizers.optimizer import Optimizer
from tfcore.precision import UNSCALED, Unscaled, all_finite, statistics_dtype

Step = Any  # a tf.function; on several devices, or for several steps in a call, a function around one


class Metrics(Module):
    """Running sums of an epoch; variables, so that a checkpoint in the middle of an epoch keeps them.

    `top_k`: count how often the label is among the k highest scores, too.
    """

    def __init__(self, top_k: int | None = None):
        super().__init__()
        self.top_k = top_k
        self.loss = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="loss")
        self.correct = tf.Variable(0, dtype=tf.int64, trainable=False, name="correct")
        self.examples = tf.Variable(0, dtype=tf.int64, trainable=False, name="examples")
        if top_k is not None:
            self.in_top_k = tf.Variable(0, dtype=tf.int64, trainable=False, name="in_top_k")

    def sums(self, labels: tf.Tensor, logits: tf.Tensor, losses: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return what one batch adds to each variable: labels (B,), logits (B, classes), losses (B,)."""
        sums = {
            "loss": tf.cast(tf.reduce_sum(losses), tf.float64),
            "correct": tf.math.count_nonzero(accuracy(labels, logits)),
            "examples": tf.size(losses, out_type=tf.int64),
        }
        if self.top_k is not None:
            sums["in_top_k"] = tf.math.count_nonzero(top_k_accuracy(labels, logits, k=self.top_k))
        return sums

    def add(self, sums: dict[str, tf.Tensor]) -> None:
        """Add the `sums` of a batch."""
        for name, variable in self.named_variables().items():
            variable.assign_add(sums[name])

    def reset(self) -> None:
        """Start a new epoch."""
        for variable in self.named_variables().values():
            variable.assign(tf.zeros_like(variable))

    def result(self) -> dict[str, float]:
        """Return mean loss, accuracy and top-k accuracy over all examples since the reset."""
        examples = int(self.examples.numpy()) or math.nan  # none, where loss scaling has skipped all
        result = {"loss": float(self.loss.numpy()) / examples, "accuracy": int(self.correct.numpy()) / examples}
        if self.top_k is not None:
            result[f"top_{self.top_k}_accuracy"] = int(self.in_top_k.numpy()) / examples
        return result


class Part(NamedTuple):
    """What a train step computes from examples. The sum over the shares of a batch is what the whole batch gives."""

    loss: tf.Tensor  # (), the mean over the batch, with its penalty and loss scale
    gradients: dict[str, tf.Tensor]  # of this loss
    sums: dict[str, tf.Tensor]  # of `Metrics`
    kept: dict[str, tf.Tensor]  # what the loss scale keeps of the running statistics


@dataclasses.dataclass(frozen=True)
class Average:
    """The exponential moving average of the weights: a second model of the same kind, and the decay."""

    model: Module
    decay: float


def make_train_step(
    model: Module,
    optimizer: Optimizer,
    metrics: Metrics,
    *,
    key: tf.Tensor,
    loss_scale: Unscaled = UNSCALED,
    objective: Objective = OBJECTIVE,
    average: Average | None = None,
    diagnostics: Diagnostics | None = None,
    xla: bool = False,
    shapes: int = 2,
    devices: Devices = ONE_DEVICE,
) -> Step:
    """Return step(inputs, labels, number): one update of `model` in place.

    inputs (B, ...) as stored (see `to_floats`), labels (B,), number () int64: the step's place in the run, folded into
    `key` for the random layers. Traced once for each of at most `shapes` batch shapes. With `devices`, inputs are what
    their `place` returns, and loss, gradients and metrics those of the whole batch, whatever its division.

    Raises:
        RuntimeError: from a call that would trace the step once more, or for an argument that is no tensor.
    """
    variables, running = model.named_trainable_variables(), _running_statistics(model)

    def compute(inputs: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> Part:
        kept = loss_scale.keep(running)
        with _traced_for(xla):
            with tf.GradientTape() as tape:
                losses, logits = objective.losses(model, inputs, labels, random.fold_in(key, number))  # (B,)
                loss = loss_scale.scaled(part_of_mean(tf.reduce_mean(losses)))  # ()
            # Zeros for a variable that the loss does not depend on, such as those of a branch that is skipped.
            zero = tf.UnconnectedGradients.ZERO
            gradients = tape.gradient(loss, list(variables.values()), unconnected_gradients=zero)
        return Part(loss, dict(zip(variables, gradients, strict=True)), metrics.sums(labels, logits, losses), kept)

    def update(part: Part) -> tf.Tensor:
        gradients = loss_scale.unscale(part.gradients)
        if diagnostics is not None:
            diagnostics.update(gradients)
        finite = all_finite({**gradients, "loss": part.loss})
        condition = loss_scale.condition(finite)
        optimizer.apply(gradients, condition=condition)
        metrics.add(loss_scale.counted(part.sums))
        loss_scale.put_back(running, part.kept, finite)
        if average is not None:  # last: of the running statistics as they stay
            update_average(average.model, model, decay=average.decay, updates=optimizer.iterations, condition=condition)
        return loss_scale.update(finite)

    return devices.step(compute, update, _trace_guard("train step", shapes), moved=running, xla=xla)


def make_evaluation_step(
    model: Module,
    metrics: Metrics,
    *,
    penalty: Penalty = no_penalty,
    pixel_scale: float = 255.0,
    xla: bool = False,
    devices: Devices = ONE_DEVICE,
) -> Step:
    """Return step(inputs, labels) -> () int64: how many examples it has added to `metrics`.

    With several `devices`, inputs are what their `place` returns.
    """

    def compute(inputs: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        with _traced_for(xla):
            logits = model(to_floats(inputs, pixel_scale), training=False)  # (B, classes)
        logits = tf.cast(logits, statistics_dtype(logits.dtype))
        return metrics.sums(labels, logits, with_penalty(penalty(), cross_entropy_from_logits(labels, logits)))

    def update(sums: dict[str, tf.Tensor]) -> tf.Tensor:
        metrics.add(sums)
        return sums["examples"]

    return devices.step(compute, update, _trace_guard("evaluation step"), moved={}, xla=xla)


def repeated(step: Step) -> Step:
    """Return call(*columns) -> (k,): the step on each row of its arguments' columns (k, ...), one call of TensorFlow.

    It saves the way from Python and back, which counts where a step takes about a millisecond. The loop stands around
    what XLA compiles: inside, on a CPU, its convolutions would run ten times slower. Traced once for each batch shape,
    whatever k.
    """

    @functools.cache
    def traced(*rows: tuple[tuple[int, ...], tf.DType]) -> tf.types.experimental.PolymorphicFunction:
        signature = [tf.TensorSpec((None, *shape), dtype) for shape, dtype in rows]

        @tf.function(input_signature=signature, autograph=False)
        def call(*columns: tf.Tensor) -> tf.Tensor:
            steps = tf.shape(columns[0])[0]

            def body(row: tf.Tensor, results: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
                return row + 1, results.write(row, step(*(column[row] for column in columns)))

            start = (tf.constant(0), tf.TensorArray(tf.bool, steps, element_shape=()))
            # One after the other: each starts from the weights that the one before has left.
            _, results = tf.while_loop(lambda row, results: row < steps, body, start, parallel_iterations=1)
            return results.stack()

        return call

    def call(*columns: tf.Tensor) -> tf.Tensor:
        return traced(*((tuple(column.shape[1:]), column.dtype) for column in columns))(*columns)

    return call


def _running_statistics(model: Module) -> dict[str, tf.Variable]:
    """The variables that a model's forward pass changes, by path."""
    return {
        f"{path}/{name}": getattr(module, name)
        for path, module in model.named_modules().items()
        if isinstance(module, BatchNorm)
        for name in ("moving_mean", "moving_variance")
    }


def _traced_for(xla: bool) -> contextlib.AbstractContextManager:
    return for_xla() if xla else contextlib.nullcontext()


def measure_modes(steps: dict[str, Step], batch: tuple[tf.Tensor, tf.Tensor], repeats: int = 5) -> dict[str, float]:
    """Return the median seconds of each step on one batch, compilation apart. The steps do change their model."""
    arguments = (*batch, tf.constant(0, tf.int64))
    seconds = {}
    for name, step in steps.items():
        step(*arguments)  # traces, compiles and warms up
        tf.test.experimental.sync_devices()  # a GPU is only told what to do
        times = []
        for _ in range(repeats):
            begin = time.perf_counter()
            step(*arguments)
            tf.test.experimental.sync_devices()
            times.append(time.perf_counter() - begin)
        seconds[name] = statistics.median(times)
    return seconds


def _trace_guard(what: str, shapes: int = 2) -> Callable[..., None]:
    """Return a function to be called while tracing: it raises, with the reason, at a trace that nobody expects.

    Expected are usually two: the batch and the last, smaller batch of an epoch.
    """
    seen: list[tuple] = []

    def check(*arguments: tf.Tensor) -> None:
        for argument in arguments:
            if not tf.is_tensor(argument):
                raise RuntimeError(f"the {what} was given {argument!r}, no tensor: each new value would be a new trace")
        signature = tuple((tuple(argument.shape), argument.dtype.name) for argument in arguments)
        if signature in seen:
            raise RuntimeError(f"the {what} was traced a second time for {signature}")
        if len(seen) == shapes:
            after = " and ".join(map(str, seen))
            raise RuntimeError(f"the {what} was traced once more than expected, for {signature} after {after}")
        seen.append(signature)

    return check
