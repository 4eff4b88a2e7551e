"""Which layer computes in which dtype: read from the graph of a traced step, not from what the layers tell of it.

A call shows what goes into a layer and what comes out. What happens in between, such as the float32 softmax inside an
attention whose inputs and outputs are bfloat16, is in the operations that the layer's name scope holds.
"""

import dataclasses
from collections.abc import Callable, Iterable

import tensorflow as tf

from tfcore.inspect.columns import aligned
from tfcore.inspect.graph.calls import Call, outputs, watch
from tfcore.inspect.graph.passes import innermost
from tfcore.module import Module, module_scopes

# Operations that move, choose or convert numbers, or make constants, and compute none.
MOVES = frozenset(
    (
        "Cast", "Identity", "IdentityN", "StopGradient", "EnsureShape", "Placeholder",
        "Const", "Fill", "OnesLike", "ZerosLike", "Shape", "ShapeN",
        "BroadcastTo", "ExpandDims", "Pack", "Reshape", "Squeeze", "Tile", "Transpose", "ReverseV2",
        "Concat", "ConcatV2", "Pad", "PadV2", "Slice", "Split", "SplitV", "StridedSlice", "StridedSliceGrad", "Unpack",
        "Gather", "GatherNd", "GatherV2", "Select", "SelectV2", "TensorListStack",
    )
)  # fmt: skip
SHOWN = 6  # operations that the table names for each dtype; the rows have all


@dataclasses.dataclass
class LayerDtypes:
    """One layer, or one of the parts of a step around the layers.

    Attributes:
        layer: the module's path, `model` for the outermost; for what stands outside of all layers `loss`, `gradients`
            or `update`.
        kind: the module's class; '' around the layers.
        inputs, outputs: dtypes of the floating-point tensors that it is called with and returns; none where the step
            does not call it.
        variables: dtypes of its own variables, those of the layers inside not counted.
        computes: {dtype: names of its own operations in that dtype}, in order of their first use.
    """

    layer: str
    kind: str
    inputs: list[str] = dataclasses.field(default_factory=list)
    variables: list[str] = dataclasses.field(default_factory=list)
    computes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    outputs: list[str] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict:
        """Return the row as JSON values."""
        return dataclasses.asdict(self)


def dtype_rows(model: Module, trace: Callable[[], tf.Graph]) -> list[LayerDtypes]:
    """Return a row for each module of `model`, then rows for loss, gradients and update.

    trace() traces a step that calls the model, and returns its graph. What it makes before the first gradient stands in
    the rows of the layers and `loss`, the gradients' own operations in `gradients`, as far as a result depends on them,
    and what follows them (optimizer, loss scale, metrics) in `update`.
    """
    rows = {
        path or "model": LayerDtypes(path or "model", type(module).__name__, variables=_own_dtypes(module))
        for path, module in model.named_modules().items()
    }

    def look(call: Call) -> object:
        result = call.proceed()
        if call.path in rows:  # no activation function
            _add(rows[call.path].inputs, call.args)
            _add(rows[call.path].outputs, outputs(result))
        return result

    with watch(model, look):
        graph = trace()
    around = {name: LayerDtypes(name, "") for name in ("loss", "gradients", "update")}
    scopes = {scope: path or "model" for scope, path in module_scopes(graph).items()}
    definition = graph.as_graph_def()
    functions = {function.signature.name: function.node_def for function in definition.library.function}
    phase, read = "loss", _read(graph)
    for node in definition.node:
        phase = _phase(node.name, phase)
        if phase == "gradients" and node.name not in read:
            continue
        layer = innermost(node.name, scopes) if phase == "loss" else ""
        row = rows[layer] if layer else around[phase]
        for inner in _with_bodies(node, functions):
            dtype = _computes_in(inner)
            if dtype and inner.op not in row.computes.setdefault(dtype, []):
                row.computes[dtype].append(inner.op)
    return [*rows.values(), *around.values()]


def dtype_table(rows: Iterable[LayerDtypes]) -> str:
    """Return the rows as text, a line each."""
    lines = [["layer", "class", "inputs", "variables", "computes in", "outputs"]]
    for row in rows:
        dtypes = (" ".join(row.inputs), " ".join(row.variables), _operations(row.computes), " ".join(row.outputs))
        lines.append([cell or "-" for cell in (row.layer, row.kind, *dtypes)])
    return "\n".join(aligned(lines, lambda column, cell: False))


def _operations(computes: dict[str, list[str]]) -> str:
    cells = []
    for dtype, names in computes.items():
        more = f", {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        cells.append(f"{dtype} ({', '.join(names[:SHOWN])}{more})")
    return " ".join(cells)


def _own_dtypes(module: Module) -> list[str]:
    inside = [path for path in module.named_modules() if path]
    found: list[str] = []
    own = [v for path, v in module.named_variables().items() if not any(path.startswith(f"{p}/") for p in inside)]
    _add(found, own)
    return found


def _add(dtypes: list[str], values: Iterable) -> None:
    for value in values:
        if tf.is_tensor(value) and value.dtype.is_floating and value.dtype.name not in dtypes:
            dtypes.append(value.dtype.name)


def _phase(name: str, phase: str) -> str:
    """The phase of an operation, by its name and by the phase of the one made before it."""
    if phase == "loss" and name.startswith("gradient_tape/"):
        return "gradients"
    return "update" if name.startswith("update/") else phase


def _read(graph: tf.Graph) -> set[str]:
    """The names of the operations that a result depends on: an output of the graph, or what a variable is set to.

    The tape makes gradients of constants, too, such as that of a dropout's rate; TensorFlow runs none of them.
    """
    waiting = [op for op in graph.get_operations() if op.type.startswith("Assign")]
    waiting += [tensor.op for tensor in graph.outputs]
    found: set[str] = set()
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found.add(op.name)
            waiting += [tensor.op for tensor in op.inputs]
    return found


def _with_bodies(node, functions: dict) -> Iterable:
    """An operation, and those of the functions that it calls: a loop's body and condition."""
    yield node
    for name in sorted(value.func.name for value in node.attr.values() if value.func.name):
        for inner in functions.get(name, ()):
            yield from _with_bodies(inner, functions)


def _computes_in(node) -> str | None:
    """The floating-point dtype in which an operation computes; None where it computes nothing in one."""
    if node.op in MOVES or "T" not in node.attr or not node.attr["T"].type:
        return None
    dtype = tf.dtypes.as_dtype(node.attr["T"].type)
    return dtype.name if dtype.is_floating else None
