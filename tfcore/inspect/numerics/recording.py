"""One training step as a record: every marked tensor, its gradient, the parameters' gradients, the variables after.

A computation is any function run(mark) -> loss that hands its intermediate tensors through mark(name, tensor) and goes
on with what that returns. For a model of ours `marked` does it; a Keras model's layers are marked by `marked_keras`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfcore.context import for_xla
from tfcore.inspect.graph.calls import Call, outputs, watch
from tfcore.module import Module

Mark = Callable[[str, tf.Tensor], tf.Tensor]
Values = dict[str, np.ndarray]
KINDS = ("forward", "backward", "gradients", "after")


def no_update(gradients: dict[str, tf.Tensor]) -> None:
    """Leave the variables alone: the step of a computation without an optimizer."""


@dataclasses.dataclass(frozen=True)
class Computation:
    """A training step in parts.

    Attributes:
        run: run(mark) -> () loss, in training mode.
        variables: what the step reads and changes, by name; those that are trainable get gradients.
        update: applies gradients by name to the variables; does nothing where there is no optimizer.
        xla: True, False: compiled by XLA, or a graph without; None: eager.
        scale: the loss scale's factor, by which the loss is multiplied and recorded gradients are divided.
    """

    run: Callable[[Mark], tf.Tensor]
    variables: dict[str, tf.Variable]
    update: Callable[[dict[str, tf.Tensor]], None] = no_update
    xla: bool | None = None
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Record:
    """What a step gave.

    Attributes:
        forward: marked tensors in the order in which they were computed, the loss last.
        backward: gradient of the loss with respect to them, in the order of the backward pass.
        gradients: of the loss, with respect to the trainable variables.
        after: all variables after the step.
        dtypes: of the marked tensors as they were computed.
    """

    forward: Values
    backward: Values
    gradients: Values
    after: Values
    dtypes: dict[str, str]


def record(computation: Computation) -> Record:
    """Run the step once and return what it gave; the variables are as before afterwards.

    All tensors are results of the compiled function. That keeps XLA from fusing them away, so that a fused kernel that
    alone is wrong may come out right here; the loss and the variables after the step of a training tell whether it is.
    """
    notes = Notes()
    with kept(computation.variables):
        if computation.xla is None:
            found = notes.step(computation, notes.watched)
        else:

            @tf.function(jit_compile=computation.xla, autograph=False)
            def compiled():
                notes.clear()
                with for_xla() if computation.xla else contextlib.nullcontext():
                    return notes.step(computation, notes.watched)

            found = compiled()
        arrays = {kind: {name: as_array(x) for name, x in found[kind].items()} for kind in KINDS[:3]}
        after = {name: as_array(variable) for name, variable in computation.variables.items()}
    backward = {name: value / computation.scale for name, value in arrays["backward"].items()}
    gradients = {name: value / computation.scale for name, value in arrays["gradients"].items()}
    return Record(arrays["forward"], backward, gradients, after, dict(notes.dtypes))


class Notes:
    """The tensors of one run, by name; a tensor inside of a loop of a graph cannot be had, and is left out."""

    def __init__(self):
        self.forward: dict[str, tf.Tensor] = {}
        self.backward: dict[str, tf.Tensor] = {}
        self.dtypes: dict[str, str] = {}

    def clear(self) -> None:
        """Forget all."""
        for notes in (self.forward, self.backward, self.dtypes):
            notes.clear()

    def step(self, computation: Computation, mark: Mark) -> dict[str, dict[str, tf.Tensor]]:
        """Run forward, backward and update; return the notes with the gradients of the variables."""
        self.graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
        trainable = {name: variable for name, variable in computation.variables.items() if variable.trainable}
        with tf.GradientTape() as tape:
            loss = computation.run(mark)
            scaled = loss * tf.cast(computation.scale, loss.dtype)
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(scaled, trainable, unconnected_gradients=zero)
        gradients = {name: tf.convert_to_tensor(gradient) for name, gradient in gradients.items()}
        self.forward["loss"] = loss
        self.dtypes["loss"] = loss.dtype.name
        scale = computation.scale
        computation.update({name: gradient / tf.cast(scale, gradient.dtype) for name, gradient in gradients.items()})
        return {"forward": dict(self.forward), "backward": dict(self.backward), "gradients": gradients}

    def reachable(self, x: tf.Tensor) -> bool:
        """Whether x belongs to the function that is traced, and not to a loop inside."""
        return self.graph is None or getattr(x, "graph", self.graph) is self.graph

    def watched(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Note x and, once it is known, its gradient; return x."""
        x = tf.convert_to_tensor(x)  # a layer that returns its variable: as it is now, before the update
        return self.noted(name, x, x, lambda gradient: gradient)

    def noted(self, name: str, x: tf.Tensor, value: tf.Tensor, told: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Note x and its gradient, but hand on `value`, and to what is before told(gradient)."""
        if not self.reachable(x):
            return x
        self.forward[name], self.dtypes[name] = tf.convert_to_tensor(x), x.dtype.name

        @tf.custom_gradient
        def handed(x: tf.Tensor):
            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                if self.reachable(upstream):
                    self.backward[name] = upstream
                return told(upstream)

            return tf.identity(value if value is not None else x), gradient

        # Recording takes its own argument, so that no closure keeps a tensor of another function.
        if value is x:
            value = None
        return handed(x)


def marked(model: Module, mark: Mark) -> contextlib.AbstractContextManager:
    """Mark what every module and activation inside of `model` returns, while open; names as `graph.calls` has them."""

    def handler(call: Call):
        return marked_result(call.name, call.proceed(), mark)

    return watch(model, handler)


def marked_result(name: str, result: Any, mark: Mark) -> Any:
    """Mark a call's floating-point results: a tensor by the name, those of a tuple by the name and their places."""
    if tf.is_tensor(result):
        return mark(name, result) if result.dtype.is_floating else result
    if outputs(result):
        return type(result)(marked_result(f"{name}[{place}]", part, mark) for place, part in enumerate(result))
    return result


@contextlib.contextmanager
def marked_keras(layers: dict[str, Any], mark: Mark) -> Iterator[None]:
    """Mark what these Keras layers return, while open; `layers` has them by the names of their counterparts."""
    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            original = layer.call

            def call(*args, _name: str = name, _original: Callable = original, **kwargs):
                return marked_result(_name, _original(*args, **kwargs), mark)

            layer.call = call
            stack.callback(setattr, layer, "call", original)
        yield


@contextlib.contextmanager
def kept(variables: dict[str, tf.Variable]) -> Iterator[None]:
    """Put the variables' values back at the end."""
    saved = {name: variable.numpy() for name, variable in variables.items()}
    try:
        yield
    finally:
        for name, value in saved.items():
            variables[name].assign(value)


def as_array(x: tf.Tensor | tf.Variable) -> np.ndarray:
    """Return the values, formats narrower than float32 widened to it, which changes no number."""
    return (tf.cast(x, tf.float32) if x.dtype.size < 4 else x).numpy()
