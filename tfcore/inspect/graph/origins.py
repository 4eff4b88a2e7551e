"""Where the operations of a traced function come from: module, source line and phase, by operation name.

TensorFlow's graph knows for each operation the Python stack that made it, and its name, which begins with the module's
path (`tfcore.module.module_scopes`). Gradients were made by the tape: their names say for which operation. `passes`
finds out the rest, step by step.

    forward    made before the first gradient, or read by what was
    backward   made inside the tape's gradient
    update     depends on a gradient, or is read by such operations alone: loss scale, clipping, optimizer
    other      the rest: metrics
"""

from collections.abc import Iterator

import tensorflow as tf

from tfcore.inspect.graph import passes
from tfcore.inspect.graph.tracebacks import describe
from tfcore.inspect.hlo.module import Instruction
from tfcore.inspect.hlo.origins import Origin
from tfcore.module import module_scopes

_LOOPS = ("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase")


class GraphOrigins:
    """The origin of every operation of a concrete function, of the functions that it calls and of its loops' bodies."""

    def __init__(self, function: tf.types.experimental.ConcreteFunction):
        self._by_name: dict[str, Origin] = {}
        self.ops: list[tuple[str, Origin]] = []  # (name, origin) of the graph's operations
        self._scopes: dict[str, str] = {}
        self._calls: dict[str, Origin] = {}  # of operations that call functions, by name
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

    def _add(self, graph: tf.Graph, prefix: str, caller: Origin | None) -> None:
        ops = passes.Ops([describe(op) for op in graph.get_operations()])
        phase = passes.phases(ops, caller.phase if caller else "")
        scopes = self._scopes or passes.scopes_by_variables(passes.scopes_of_names(ops), ops, graph)
        # Without scopes of ours, an update is its variable's.
        updates = set() if self._scopes else {name for name in phase if phase[name] == "update"}
        layers = passes.scope_layers(ops, scopes, updates)
        layers |= passes.custom_gradient_layers(ops, phase, layers)
        lines = {item.op.name: (item.source, item.function) for item in ops.all if item.source}
        lines |= passes.gradient_lines(ops)
        layers |= passes.neighbour_layers(ops, phase, layers)
        lines |= passes.neighbour_lines(ops, phase, lines)
        for item in ops.all:
            name = item.op.name
            source, function = lines.get(name, ("", ""))
            layer = layers.get(name) or passes.innermost(name, scopes) or (caller.layer if caller else "")
            if _function_names(item.op):
                self._calls[prefix + name] = Origin(item.op.type, layer, source, phase[name])
            layer = layer or (f"{function}()" if function else "")
            origin = Origin(item.op.type, layer, source, phase[name])
            self.ops.append((prefix + name, origin))
            for known in (prefix + name, name):
                self._by_name.setdefault(known, origin)
        for item in ops.all:  # scopes last: an operation's own name goes first
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
