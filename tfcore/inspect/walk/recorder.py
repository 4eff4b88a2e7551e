"""Records the tensors of a forward pass, and takes the gradients of the loss with respect to all of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfcore.inspect.graph.calls import Call, outputs
from tfcore.inspect.walk.between import LATEST, recognise
from tfcore.inspect.walk.rules import OPERATIONS, is_recordable, rule_of_call
from tfcore.inspect.walk.steps import expansion_of, named
from tfcore.inspect.walk.stops import Parameter, Rule, Stop, Walk, formula_of, place_of, place_of_call
from tfcore.module import Module
from tfcore.ops.activations import softmax
from tfcore.ops.losses import cross_entropy_from_logits

AXES = {0: "", 1: "D", 2: "TD", 3: "HWC", 4: "HWKG"}  # of a tensor without its batch, unless a step says otherwise
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Recorder:
    """The stops of one forward pass, and the tape that they lie on; `paths`: the model's variables by path."""

    def __init__(self, paths: dict[str, tf.Variable]):
        self.paths = paths
        self.variables = {id(variable): variable for variable in paths.values()}
        self.tape = tf.GradientTape(persistent=True)
        self.stops: list[Stop] = []
        self.tensors: list[tf.Tensor] = []  # of the stops; held, so that no id is given twice
        self.names: dict[int, str] = {}  # by the id of the tensor
        self.uses: list[dict[str, tf.Variable]] = []  # the parameters of the stops
        self.inner: list[tuple[int, Callable, Call]] = []  # stops to be computed again, step by step
        self.around: list[tf.Tensor] = []  # with which the open calls were made

    def start(self, inputs: tf.Tensor) -> None:
        """Record what goes in."""
        self.add(Stop("input", "input", "", "", axes_of(inputs), array_of(inputs)), inputs)

    def add(self, stop: Stop, tensor: tf.Tensor, parameters: dict[str, tf.Variable] | None = None) -> tf.Tensor:
        """Record a tensor; a name that is taken gets a number."""
        taken = {other.name for other in self.stops}
        base, number = stop.name, 1
        while stop.name in taken:
            number += 1
            stop.name = f"{base} #{number}"
        if tensor.dtype.is_floating:
            self.tape.watch(tensor)
        self.stops.append(stop)
        self.tensors.append(tensor)
        self.uses.append(parameters or {})
        self.names[id(tensor)] = stop.name
        return tensor

    def known_as(self, tensor: tf.Tensor, name: str) -> bool:
        """Return whether a tensor is a stop already; if so, it is `name`'s output, too."""
        if id(tensor) not in self.names:
            return False
        if tensor is not self.tensors[0]:
            self.stops[self._number(tensor)].also.append(name)
        return True

    def see(self, call: Call) -> object:
        """The handler of a watched forward pass."""
        given = [value for value in (*call.args, *call.kwargs.values()) if is_recordable(value)]
        for tensor in given:
            if id(tensor) not in self.names:
                self._between(tensor, call)
        expand = expansion_of(call.callee, call.kwargs)
        place = place_of_call()
        self.around += given
        if expand is None:
            result = call.proceed()
        else:
            with call.unwatched():
                result = call.proceed()
        del self.around[len(self.around) - len(given) :]
        found = outputs(result)
        if not found:
            return result
        output = found[0]
        if self.known_as(output, call.name):
            if isinstance(call.callee, Module):  # whose activation was recorded, such as a PRelu's
                self.uses[self._number(output)].update(own_variables(call.callee))
            return result
        self._output(call, output, place)
        if expand is not None:
            self.inner.append((len(self.stops) - 1, expand, call))
        return result

    def _output(self, call: Call, output: tf.Tensor, place) -> None:
        module = isinstance(call.callee, Module)
        kind = type(call.callee).__name__ if module else call.callee.__name__
        operation = OPERATIONS.get(kind, type(call.callee) if module else call.callee)
        stop = Stop(
            call.name,
            "module" if module else "activation",
            kind,
            formula_of(operation),
            axes_of(output),
            array_of(output),
            source=place_of(operation),
            call=place,
        )
        stop.rule = named(rule_of_call(call), self.names)
        if stop.rule is None and kind not in OPERATIONS and (found := recognise(output, self._candidates())):
            stop.rule = Rule(*found)
        self.add(stop, output, own_variables(call.callee) if module else {})

    def _between(self, tensor: tf.Tensor, call: Call) -> None:
        """Record what came about between modules."""
        found = recognise(tensor, self._candidates())
        uses: dict[str, tf.Variable] = {}
        if found is None:
            uses = {path: variable for path, variable in self.variables_of(tensor) if variable.trainable}
        if uses:
            stop = Stop(next(iter(uses)), "between", "", "", axes_of(tensor), array_of(tensor), rule=Rule("table"))
            stop.note = "a parameter, handed on as it is"
        elif found is None:
            stop = Stop(f"input of {call.name}", "between", "", "", axes_of(tensor), array_of(tensor))
            stop.note = "computed between modules, by the lines before the call"
        else:
            kind, names, settings = found
            stop = Stop(f"{kind}({names[-1]})", "between", kind, "", axes_of(tensor), array_of(tensor))
            stop.rule = Rule(kind, names, settings)
            stop.note = f"recognised by its numbers, to the bit: {kind} of {' and '.join(names)}"
        stop.call = place_of_call()
        self.add(stop, tensor, uses)

    def _candidates(self) -> list[tuple[str, tf.Tensor]]:
        tensors = {id(tensor): tensor for tensor in [*self.around, *self.tensors[-LATEST:]]}
        return [(self.names[key], tensor) for key, tensor in tensors.items() if key in self.names]

    def variables_of(self, tensor: tf.Tensor) -> list[tuple[str, tf.Variable]]:
        """Return the model's variables that hold just these numbers, by path."""
        array = array_of(tensor)
        return [
            (path, variable)
            for path, variable in self.paths.items()
            if tuple(variable.shape) == array.shape and np.array_equal(variable.numpy(), array)
        ]

    def _number(self, tensor: tf.Tensor) -> int:
        return next(i for i, other in enumerate(self.tensors) if other is tensor)

    def walk(self, result: tf.Tensor, losses: tf.Tensor, labels: tf.Tensor, loss: Loss) -> Walk:
        """Take the gradients, add the steps inside of layers, the probabilities and the loss."""
        variables = self.variables
        sources = [tensor for tensor in self.tensors if tensor.dtype.is_floating]
        gradients = iter(self.tape.gradient(losses, [*sources, *variables.values()]))
        for stop, tensor in zip(self.stops, self.tensors, strict=True):
            stop.gradient = array_of(next(gradients), like=tensor) if tensor.dtype.is_floating else None
        of_variables = {key: _dense(gradient) for key, gradient in zip(variables, gradients, strict=True)}
        for stop, uses in zip(self.stops, self.uses, strict=True):
            stop.parameters = _parameters(uses, of_variables)
        last = self.names.get(id(result), self.stops[-1].name)
        stops = self._with_steps(of_variables)
        if loss is cross_entropy_from_logits:
            stops.append(_probabilities(result, labels, last))
        value = float(losses[0])
        rule = Rule("cross entropy", (last,), {"label": int(labels[0])}) if loss is cross_entropy_from_logits else None
        ones = np.ones([], losses.dtype.as_numpy_dtype)
        formula, source = formula_of(loss), place_of(loss)
        stops.append(
            Stop("loss", "loss", loss.__name__, formula, "", losses.numpy()[0], ones, rule=rule, source=source)
        )
        return Walk(stops, result.numpy()[0], value, int(labels[0]))

    def _with_steps(self, of_variables: dict[int, np.ndarray | None]) -> list[Stop]:
        before: dict[int, list[Stop]] = {}
        for number, expand, call in self.inner:
            before[number] = _Steps(self, number, call).run(expand, of_variables)
        return [stop for i, own in enumerate(self.stops) for stop in (*before.get(i, ()), own)]


class _Steps:
    """The steps inside of one call, which are computed again under a tape of their own."""

    def __init__(self, recorder: Recorder, number: int, call: Call):
        self.outer, self.number, self.call = recorder, number, call
        self.stops: list[Stop] = []
        self.tensors: list[tf.Tensor] = []
        self.uses: list[dict[str, tf.Variable]] = []
        self.names = dict(recorder.names)
        self.tape = tf.GradientTape(persistent=True)
        self.held: list[tf.Tensor] = []  # so that no id is given twice

    def cast(self, tensor: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Return a recorded tensor in another dtype, under the same name."""
        self.held.append(tf.cast(tensor, dtype))
        if id(tensor) in self.names:
            self.names[id(self.held[-1])] = self.names[id(tensor)]
        return self.held[-1]

    def run(self, expand: Callable, of_variables: dict[int, np.ndarray | None]) -> list[Stop]:
        own = self.outer.stops[self.number]
        with self.tape:
            output = expand(self.call.callee, self, *self.call.args, **self.call.kwargs)
        upstream = own.gradient
        target = tf.reshape(output, tf.shape(self.outer.tensors[self.number]))
        with np.errstate(invalid="ignore"):  # a NaN on the way is told of elsewhere
            gap = float(np.max(np.abs(array_of(target) - own.value), initial=0.0))
        gradients: list = [None] * len(self.tensors)
        if upstream is not None:
            handed = tf.reshape(tf.constant(upstream, output.dtype), tf.shape(output))
            gradients = self.tape.gradient(output, self.tensors, output_gradients=handed)
        note = "computed again by the plain formula; the output so made "
        note += f"differs from the layer's own by {gap:.2g} at most" if gap else "is the layer's own, to the bit"
        for stop, tensor, gradient, uses in zip(self.stops, self.tensors, gradients, self.uses, strict=True):
            stop.gradient = None if upstream is None else array_of(gradient, like=tensor)
            stop.parameters = _parameters(uses, of_variables)
            stop.note = note
        # The last step is the layer's output, recorded already: it only says how it was computed.
        last = self.stops.pop()
        own.rule, own.parameters, own.axes = last.rule, last.parameters, last.axes
        return self.stops

    def __call__(self, name, tensor, axes, of, rule=None, module=None, uses=None) -> tf.Tensor:
        self.tape.watch(tensor)
        self.stops.append(
            Stop(
                f"{self.call.name}: {name}",
                "step",
                of.__name__,
                formula_of(of),
                axes,
                array_of(tensor),
                rule=named(rule, self.names),
                source=place_of(of),
            )
        )
        self.tensors.append(tensor)
        variables = {} if module is None else own_variables(module)
        self.uses.append({key: value for key, value in variables.items() if uses is None or key in uses})
        self.names[id(tensor)] = self.stops[-1].name
        return tensor


def _probabilities(result: tf.Tensor, labels: tf.Tensor, last: str) -> Stop:
    with tf.GradientTape() as tape:
        probabilities = softmax(result)
        tape.watch(probabilities)
        chosen = tf.gather(probabilities, labels, batch_dims=1)
        loss = -tf.math.log(chosen)
    gradient = array_of(tape.gradient(loss, probabilities), like=probabilities)
    stop = Stop("probabilities", "step", "softmax", formula_of(softmax), "D", array_of(probabilities), gradient)
    stop.rule, stop.source = Rule("softmax", (last,)), place_of(softmax)
    stop.note = "the loss is computed from the logits; the gradient here is that of −log of the label's probability"
    return stop


def axes_of(tensor: tf.Tensor) -> str:
    """Return a letter for each axis of a tensor without its batch."""
    rank = tensor.shape.rank
    return AXES.get(rank - 1 if tensor.shape[0] == 1 or rank > 2 else rank, "")


def own_variables(module: Any) -> dict[str, tf.Variable]:
    """Return the variables that hang at a module itself, by name."""
    return {name: value for name, value in vars(module).items() if isinstance(value, tf.Variable)}


def _parameters(uses: dict[str, tf.Variable], gradients: dict[int, np.ndarray | None]) -> dict[str, Parameter]:
    return {name: Parameter(variable.numpy(), gradients.get(id(variable))) for name, variable in uses.items()}


def _dense(gradient) -> np.ndarray | None:
    return None if gradient is None else tf.convert_to_tensor(gradient).numpy()


def array_of(tensor: tf.Tensor | None, like: tf.Tensor | None = None) -> Any:
    """Return a tensor as an array without the batch's axis, float32 at least; None stays None."""
    if tensor is None:
        return None
    tensor = tf.convert_to_tensor(tensor)
    array = tensor.numpy()
    shape = array.shape if like is None else tuple(like.shape)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    return array[0] if len(shape) > 1 and shape[0] == 1 else array
