"""Which tensor of a traced function is the first that is not finite, and what went into it.

The function's graph is run operation by operation, in the order in which it was traced: forward pass, loss, gradients,
update. Loops and inner functions are run the same way, turn by turn. Not every infinity is a mistake: a masked score is
−∞ on purpose, and its exponential is 0 again. Two rules tell them apart:

    An infinity that comes from a constant of the program is meant; a NaN never is.
    What goes wrong must reach a result: a returned tensor, a variable, or a test for finite numbers.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.python.eager import context, execute  # nothing public runs an operation by its name in the graph

from tfcore.inspect.graph.origins import GraphOrigins, Origin
from tfcore.inspect.graph.tracebacks import describe


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a tensor holds: `nan` and `inf` count elements, `low` and `high` bound the finite ones, None without any.

    `name` is its name in the graph; `rows` are the places along the first axis at which an element is not finite.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nan: int
    inf: int
    low: float | None
    high: float | None
    rows: tuple[int, ...]

    def __str__(self) -> str:
        bounds = "no finite number" if self.low is None else f"{self.low:.4g} .. {self.high:.4g}"
        bad = [f"{count:,} {kind}" for count, kind in ((self.nan, "NaN"), (self.inf, "Inf")) if count]
        shape = ", ".join(map(str, self.shape))
        return f"{self.dtype} ({shape}): " + ", ".join([*bad, bounds])


@dataclasses.dataclass(frozen=True)
class NonFinite:
    """The first tensor that is not finite and that the function's results suffer from.

    Attributes:
        op_name, op_type: the operation that made it; 'Placeholder' for an argument of the function.
        layer, source, phase: where that comes from (`graph.origins.Origin`); of an operation inside a loop,
            layer and phase of the loop.
        within: the loops and functions that it stands in, outermost first, such as 'While, turn 3'.
        variable: name of the variable that was read, where the operation reads one; else ''.
        output: its contents.
        inputs: contents of the operation's floating-point inputs.
    """

    op_name: str
    op_type: str
    layer: str
    source: str
    phase: str
    within: tuple[str, ...]
    variable: str
    output: Contents
    inputs: tuple[Contents, ...]

    def to_json(self) -> dict:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)


def first_nonfinite(function: tf.types.experimental.ConcreteFunction, *args: tf.Tensor) -> NonFinite | None:
    """Run a traced function operation by operation and return the first tensor that is not finite, or None.

    Its variables are changed as by a call. `args`: tensors, as the function takes them. No compiler and no graph
    rewrite is at work here, so that a number at the edge of its format may stay inside it.
    """
    return _Execution(function).run(args)


@dataclasses.dataclass
class _Record:
    """An operation whose output is not finite; `parents` made those of its inputs that are not."""

    order: int
    op: tf.Operation
    calls: tuple[tuple[tf.Operation, int], ...]
    parents: list["_Record"]
    output: Contents | None = None
    inputs: tuple[Contents, ...] = ()
    variable: str = ""


@dataclasses.dataclass(frozen=True)
class _Value:
    """A tensor; who made it, if it is not finite; or whether its infinities are meant."""

    tensor: tf.Tensor
    maker: _Record | None = None
    meant: bool = False


class _Execution:
    def __init__(self, function: tf.types.experimental.ConcreteFunction):
        self._function = function
        self._variables = {id(variable.handle): variable.name for variable in function.variables}
        self._calls: tuple[tuple[tf.Operation, int], ...] = ()  # (calling operation, turn) of what runs now
        self._count = 0
        self._ends: list[_Record] = []  # whose output reaches a result

    def run(self, args: Iterable[tf.Tensor]) -> NonFinite | None:
        graph = self._function.graph
        inputs = [self._judge(x.op, tensor, []) for x, tensor in zip(graph.inputs, args, strict=False)]
        for captured in self._function.captured_inputs:
            inputs.append(_Value(captured, meant=_is_float(captured)))
        results = self._run_graph(graph, inputs)
        self._ends += [value.maker for value in results if value.maker is not None]
        return self._find(_ancestors(self._ends))

    def _run_graph(self, graph: tf.Graph, inputs: list[_Value]) -> list[_Value]:
        values = {tensor.name: value for tensor, value in zip(graph.inputs, inputs, strict=True)}
        uses = Counter(tensor.name for op in graph.get_operations() for tensor in op.inputs)
        uses.update(tensor.name for tensor in graph.outputs)
        for op in _in_order(graph):
            if op.type == "Placeholder":
                continue
            taken = [values[tensor.name] for tensor in op.inputs]
            values |= zip((tensor.name for tensor in op.outputs), self._run_op(op, taken), strict=True)
            for tensor in op.inputs:
                uses[tensor.name] -= 1
            for tensor in (*op.inputs, *op.outputs):
                if not uses[tensor.name]:
                    values.pop(tensor.name, None)  # its memory is free from here on
        return [values[tensor.name] for tensor in graph.outputs]

    def _run_op(self, op: tf.Operation, taken: list[_Value]) -> list[_Value]:
        if op.type in ("While", "StatelessWhile"):
            return self._run_while(op, taken)
        if op.type in ("If", "StatelessIf"):
            branch = "then_branch" if taken[0].tensor else "else_branch"
            return self._run_inner(op, op.get_attr(branch).name, taken[1:], 1)
        if op.type.endswith("PartitionedCall"):
            return self._run_inner(op, op.get_attr("f").name, taken, 1)
        if op.type == "IsFinite" or op.type.startswith("Assign"):
            self._ends += [value.maker for value in taken if value.maker is not None]
        return [self._judge(op, tensor, taken) for tensor in _execute(op, [value.tensor for value in taken])]

    def _run_while(self, op: tf.Operation, taken: list[_Value]) -> list[_Value]:
        turn = 1
        while self._run_inner(op, op.get_attr("cond").name, taken, turn)[0].tensor:
            taken = self._run_inner(op, op.get_attr("body").name, taken, turn)
            turn += 1
        return taken

    def _run_inner(self, op: tf.Operation, name: str, taken: list[_Value], turn: int) -> list[_Value]:
        graph = op.graph._get_function(name).graph  # TensorFlow has no public way from an operation to its function
        self._calls, outer = (*self._calls, (op, turn)), self._calls
        try:
            return self._run_graph(graph, taken)
        finally:
            self._calls = outer

    def _judge(self, op: tf.Operation, tensor: tf.Tensor, taken: list[_Value]) -> _Value:
        """The output of an operation with what is known of its numbers."""
        parents = [value.maker for value in taken if value.maker is not None]
        if tensor.dtype == tf.variant:  # a list of tensors, of which any may be one of those
            return _Value(tensor, parents[0] if parents else None)
        if not _is_float(tensor) or bool(tf.reduce_all(tf.math.is_finite(tensor))):
            return _Value(tensor)
        from_constants = op.type == "Const" or any(value.meant for value in taken)
        if from_constants and not parents and not bool(tf.reduce_any(tf.math.is_nan(tensor))):
            return _Value(tensor, meant=True)
        self._count += 1
        record = _Record(self._count, op, self._calls, parents)
        if not parents:
            record.output = _contents(op.outputs[0].name, tensor)
            floats = [(x.name, value.tensor) for x, value in zip(op.inputs, taken, strict=False)]
            record.inputs = tuple(_contents(name, value) for name, value in floats if _is_float(value))
            if op.type == "ReadVariableOp":
                record.variable = self._variables.get(id(taken[0].tensor), "").partition(":")[0]
        return _Value(tensor, record)

    def _find(self, records: list[_Record]) -> NonFinite | None:
        first = min((record for record in records if not record.parents), key=lambda x: x.order, default=None)
        if first is None or first.output is None:
            return None
        origins = GraphOrigins(self._function)
        outermost = first.calls[0][0] if first.calls else first.op
        origin = origins.find(outermost.name) or Origin(outermost.type, "", "", "other")
        return NonFinite(
            op_name=first.op.name,
            op_type=first.op.type,
            layer=origin.layer,
            source=(describe(first.op).source if first.calls else "") or origin.source,
            phase=origin.phase,
            within=tuple(f"{op.type}, turn {turn}" if "While" in op.type else op.type for op, turn in first.calls),
            variable=first.variable,
            output=first.output,
            inputs=first.inputs,
        )


def _in_order(graph: tf.Graph) -> list[tf.Operation]:
    """The operations in the order in which they were traced, each after those that it waits for.

    A loop waits for later ones: its gradient hands it lists to keep values in.
    """
    ordered: dict[str, tf.Operation] = {}
    for op in graph.get_operations():
        waiting = [op]
        while waiting:
            needed = (*(tensor.op for tensor in waiting[-1].inputs), *waiting[-1].control_inputs)
            missing = next((other for other in needed if other.name not in ordered), None)
            if missing is not None:
                waiting.append(missing)
            else:
                ordered.setdefault(waiting[-1].name, waiting.pop())
    return list(ordered.values())


def _execute(op: tf.Operation, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """The outputs of one operation of a graph, computed eagerly."""
    if op.type == "Const":  # the only attribute that is a tensor
        return [tf.constant(tf.make_ndarray(op.get_attr("value")), op.outputs[0].dtype)]
    attributes = [(attribute.name, _plain(op.get_attr(attribute.name))) for attribute in op.op_def.attr]
    flat = tuple(part for pair in attributes for part in pair)
    return execute.execute(op.type, len(op.outputs), tensors, flat, context.context())


def _plain(value: object) -> object:
    """An attribute as TensorFlow's executor takes it: types as their numbers, shapes as lists."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tf.DType):
        return value.as_datatype_enum
    if isinstance(value, TensorShapeProto):
        return None if value.unknown_rank else [dim.size for dim in value.dim]
    return value


def _ancestors(records: list[_Record]) -> list[_Record]:
    """The records and all that they come from."""
    found: dict[int, _Record] = {}
    waiting = list(records)
    while waiting:
        record = waiting.pop()
        if record.order not in found:
            found[record.order] = record
            waiting += record.parents
    return list(found.values())


def _is_float(tensor: tf.Tensor) -> bool:
    return tensor.dtype.is_floating


def _contents(name: str, tensor: tf.Tensor) -> Contents:
    values = tf.cast(tensor, tf.float64).numpy()
    bad = ~np.isfinite(values)
    finite = values[~bad]
    rows = np.flatnonzero(bad.reshape(len(values), -1).any(axis=1)) if values.ndim else ()
    return Contents(
        name=name,
        dtype=tensor.dtype.name,
        shape=tuple(values.shape),
        nan=int(np.isnan(values).sum()),
        inf=int(np.isinf(values).sum()),
        low=float(finite.min()) if finite.size else None,
        high=float(finite.max()) if finite.size else None,
        rows=tuple(int(row) for row in rows),
    )
