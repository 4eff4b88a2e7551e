"""Where the operations of a traced function come from: module, source line and phase, by operation name.

TensorFlow's graph knows for each operation the Python stack that made it, and its name, which begins with the module's
path (`tfcore.module.module_scopes`). Gradients were made by the tape: their names say for which operation.

    forward    made before the first gradient, or read by what was
    backward   made inside the tape's gradient
    update     depends on a gradient, or is read by such operations alone: loss scale, clipping, optimizer
    other      the rest: metrics
"""

import itertools
import re
from collections.abc import Iterator

import tensorflow as tf

from tfcore.inspect.graph.tracebacks import TracedOp, describe
from tfcore.inspect.hlo.module import Instruction
from tfcore.inspect.hlo.origins import Origin
from tfcore.module import module_scopes

_GRADIENT_SCOPES = ("gradient_tape/", "gradients/")
_LOOPS = ("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase")


class GraphOrigins:
    """The origin of every operation of a concrete function, of the functions that it calls and of its loops' bodies."""

    def __init__(self, function: tf.types.experimental.ConcreteFunction):
        self._by_name: dict[str, Origin] = {}
        self.ops: list[tuple[str, Origin]] = []  # (name, origin) of the graph's operations
        self._scopes: dict[str, str] = {}
        self._calls: dict[str, TracedOp] = {}  # operations that call functions, by name
        graphs = list(_graphs(function.graph, "", ""))
        for graph, *_ in graphs:
            self._scopes |= module_scopes(graph)
        outermost = next((scope for scope, path in self._scopes.items() if not path and "update/" not in scope), "")
        self._scopes = {scope: path or outermost.rpartition("/")[2] for scope, path in self._scopes.items()}
        for graph, prefix, caller in graphs:  # callers come before what they call
            self._add(graph, prefix, self._calls.get(caller))

    def of(self, item: Instruction, computation: str) -> tuple[Origin, ...]:
        """Return the origin of an HLO instruction by its metadata, () where the graph has no such name."""
        found = self.find(item.metadata.op_name)
        return () if found is None else (found,)

    def find(self, op_name: str) -> Origin | None:
        """Return the origin of an HLO instruction by its metadata's op_name; None where the graph has no such name.

        XLA joins names with ';', puts callers' names in front, and sometimes names the scope and not the operation.
        """
        for name in op_name.split(";"):
            while name:
                if name in self._by_name:
                    return self._by_name[name]
                name = name.partition("/")[2]
        return None

    def _add(self, graph: tf.Graph, prefix: str, caller: "TracedOp | None") -> None:
        ops = [describe(op) for op in graph.get_operations()]
        by_name = {item.op.name: item for item in ops}
        _set_phases(ops, by_name, caller)
        scopes = self._scopes or _named_by_variables(_scopes_of_names(ops), ops, graph)
        for item in ops:
            if item.phase != "update" or self._scopes:  # without scopes of ours, an update is its variable's
                item.layer = _layer(_forward_name(item.op.name), scopes)
        _set_custom_gradients(ops, by_name)
        _set_lines(ops)
        _set_from_neighbours(ops, by_name)
        for item in ops:
            item.layer = item.layer or _layer(item.op.name, scopes) or (caller.layer if caller else "")
            if _function_names(item.op):
                self._calls[prefix + item.op.name] = item
            layer = item.layer or (f"{item.function}()" if item.function else "")
            origin = Origin(item.op.type, layer, item.source, item.phase)
            self.ops.append((prefix + item.op.name, origin))
            for name in (prefix + item.op.name, item.op.name):
                self._by_name.setdefault(name, origin)
        for item in ops:  # scopes last: an operation's own name goes first
            scope = item.op.name.rpartition("/")[0]
            if scope and item.op.type not in ("Const", "Placeholder"):
                self._by_name.setdefault(scope, self._by_name[item.op.name])


def _graphs(graph: tf.Graph, prefix: str, caller: str, seen: tuple = ()) -> Iterator[tuple[tf.Graph, str, str]]:
    """(graph, prefix of its names in HLO, name of the caller) of a graph and of all functions that it calls."""
    yield graph, prefix, caller
    for op in graph.get_operations():
        for name in _function_names(op):
            function = graph._get_function(name)  # TensorFlow has no public way from an operation to its function
            inner = getattr(function, "graph", None)
            if inner is not None and name not in seen:
                inside = prefix if op.type in _LOOPS else f"{prefix}{op.name}/"
                yield from _graphs(inner, inside, prefix + op.name, (*seen, name))


def _function_names(op: tf.Operation) -> list[str]:
    if not any(op.type.endswith(kind) for kind in (*_LOOPS, "PartitionedCall", "RemoteCall")):
        return []
    values = (value for _, value in sorted(op.node_def.attr.items()))
    return [function.name for value in values for function in (value.func, *value.list.func) if function.name]


def _inputs(item: TracedOp, by_name: dict[str, TracedOp]) -> list[TracedOp]:
    return [by_name[tensor.op.name] for tensor in item.op.inputs if tensor.op.name in by_name]


def _readers(item: TracedOp, by_name: dict[str, TracedOp]) -> list[TracedOp]:
    return [by_name[op.name] for tensor in item.op.outputs for op in tensor.consumers() if op.name in by_name]


def _set_phases(ops: list[TracedOp], by_name: dict[str, TracedOp], caller: TracedOp | None) -> None:
    if caller is not None and caller.phase == "backward":
        for item in ops:
            item.phase = "backward"
        return
    seen = False  # a gradient
    changed, late = set(), set()  # handles of variables that were updated; operations that read them afterwards
    for item in ops:
        if item.gradient and not item.op.type.startswith("TensorListPush"):  # which saves a loop's values on the way
            seen, item.phase = True, "backward"
        elif item.op.name.startswith("update/") or any(
            x.phase in ("backward", "update") for x in _inputs(item, by_name)
        ):
            item.phase = "update"
        else:
            item.phase = "" if seen else "forward"
        if item.phase == "update" and item.op.type.startswith("Assign"):
            changed.add(item.op.inputs[0].op.name)
        if any(x.op.name in (changed | late) for x in _inputs(item, by_name)):
            late.add(item.op.name)
    for item in reversed(ops):
        if item.phase:
            continue
        phases = {reader.phase for reader in _readers(item, by_name)}
        if phases & {"forward", "backward"}:
            item.phase = "forward"
        else:
            item.phase = "update" if "update" in phases or item.op.name in late else "other"
    for item in ops:
        if item.phase == "other" and any(x.phase == "update" for x in _inputs(item, by_name)):
            item.phase = "update"  # the count of updates


def _forward_name(name: str) -> str:
    """The name of the forward operation for which a gradient was made, as far as the gradient's name says it."""
    while name.startswith(_GRADIENT_SCOPES):
        name = name.partition("/")[2]
    return name


def _scopes_of_names(ops: list[TracedOp]) -> dict[str, str]:
    """Without modules of ours, such as in a Keras model: the scopes of the forward operations' names."""
    names = {item.op.name for item in ops}
    paths = (item.op.name.split("/")[:-1] for item in ops if not item.op.name.startswith(_GRADIENT_SCOPES))
    # What begins with a capital is TensorFlow's name for an operation of several parts.
    scopes = {"/".join(itertools.takewhile(lambda part: not part[0].isupper(), path)) for path in paths}
    return {scope: scope for scope in scopes - names if scope}


def _named_by_variables(scopes: dict[str, str], ops: list[TracedOp], graph: tf.Graph) -> dict[str, str]:
    """Scopes with the names of the variables that are read there: TensorFlow counts a scope that was opened before.

    sequential_1/dense_1 reads sequential/dense/kernel: it is sequential/dense, and not the layer dense_1.
    """
    names = {id(variable.handle): variable.name.partition(":")[0] for variable in graph.variables}
    read = {inner.op.name: names[id(outer)] for outer, inner in graph.captures if id(outer) in names}
    whole = {"": ""}  # scope and what it is called, for each that is known, and for those around it
    for item in ops:
        if item.op.type != "ReadVariableOp" or item.op.inputs[0].op.name not in read:
            continue
        scope = _layer(item.op.name, scopes).split("/")
        owner = read[item.op.inputs[0].op.name].split("/")[:-1]
        pairs = zip(scope, owner, strict=False)
        if len(scope) == len(owner) and all(re.fullmatch(rf"{re.escape(name)}(_\d+)?", here) for here, name in pairs):
            for depth in range(1, len(scope) + 1):
                whole.setdefault("/".join(scope[:depth]), "/".join(owner[:depth]))

    def called(scope: str) -> str:
        if scope in whole:
            return whole[scope]
        outer, _, own = scope.rpartition("/")
        return f"{called(outer)}/{own}".lstrip("/")

    return {scope: called(path) for scope, path in scopes.items()}


def _layer(name: str, scopes: dict[str, str]) -> str:
    """The path of the innermost scope in which a name stands."""
    while name:
        name = name.rpartition("/")[0]
        if name in scopes:
            return scopes[name]
    return ""


def _set_custom_gradients(ops: list[TracedOp], by_name: dict[str, TracedOp]) -> None:
    """Layers of custom gradients, whose operations have no scope: that of the forward call whose values they read.

    TensorFlow ends the forward call with an IdentityN: it is the first one after the last value that is read.
    """
    places = {item.op.name: place for place, item in enumerate(ops)}
    ends = [place for place, item in enumerate(ops) if item.op.type == "IdentityN"]
    run: list[TracedOp] = []
    for item in (*ops, None):
        if item is not None and item.gradient and item.own_line and not item.layer:
            run.append(item)
            continue
        read = [
            places[x.op.name] for member in run for x in _inputs(member, by_name) if x.phase == "forward" and x.layer
        ]
        end = next((place for place in ends if read and place >= max(read)), None)
        for member in run:
            member.layer = ops[end].layer if end is not None else ""
        run = [] if item is None or item.op.type != "Const" else run


def _set_lines(ops: list[TracedOp]) -> None:
    """Give a gradient the line of the forward operation with its name, or of one in its scope that shares a tensor."""
    named: dict[str, list[tuple[int, TracedOp]]] = {}
    for place, item in enumerate(ops):
        if not item.gradient and item.source:
            for scope in (item.op.name, item.op.name.rpartition("/")[0]):
                named.setdefault(scope, []).append((place, item))
    last: dict[str, int] = {}  # place in the forward pass at which each scope's gradients have arrived, from the end
    for item in ops:
        if not item.gradient or item.source:
            continue
        scope = _forward_name(item.op.name)
        while scope and scope not in named:
            scope = scope.rpartition("/")[0]
        candidates = named.get(scope, [])
        if not candidates:
            continue
        tensors = {tensor.ref() for tensor in item.op.inputs}
        sharing = [
            (place, other)
            for place, other in candidates
            if tensors & {tensor.ref() for tensor in (*other.op.inputs, *other.op.outputs)}
        ]
        arrived = last.get(scope, len(ops))
        place, found = max(
            sharing or candidates, key=lambda pair: (pair[0] <= arrived, pair[0] if pair[0] <= arrived else -pair[0])
        )
        item.source, item.function, last[scope] = found.source, found.function, place


def _set_from_neighbours(ops: list[TracedOp], by_name: dict[str, TracedOp]) -> None:
    """Fill what is missing: sums of gradients from their readers; updates from the variable's layer."""
    owners = {}  # of a variable, by its handle's name: the layer that reads it
    for item in ops:
        if item.op.type == "ReadVariableOp" and item.phase == "forward" and item.layer:
            owners.setdefault(item.op.inputs[0].op.name, item.layer)
    for item in reversed(ops):
        if item.phase == "backward" and not (item.layer and item.source):
            known = [reader for reader in _readers(item, by_name) if reader.phase == "backward"]
            item.layer = item.layer or next((reader.layer for reader in known if reader.layer), "")
            if not item.source:
                first = next((reader for reader in known if reader.source), None)
                item.source, item.function = (first.source, first.function) if first else ("", "")
        elif item.phase == "update" and not item.layer:
            if item.op.type.startswith(("Assign", "ResourceApply")):
                item.layer = owners.get(item.op.inputs[0].op.name, "")
            else:
                layers = {reader.layer for reader in _readers(item, by_name) if reader.layer}
                item.layer = layers.pop() if len(layers) == 1 else ""
    for item in ops:
        known = [x for x in _inputs(item, by_name) if x.phase in ("backward", "update") and x.layer]
        if item.phase == "update" and not item.layer:
            layers = {x.layer for x in known}
            item.layer = layers.pop() if len(layers) == 1 else ""
        if item.gradient and not item.source:
            item.source, item.function = item.tape
