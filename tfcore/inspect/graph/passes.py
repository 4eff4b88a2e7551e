"""The passes of `tfcore.inspect.graph.origins`: each reads the operations of a graph and returns what it finds out.

One graph, worked through: y = dense(x); loss = sum(y²) under a tape; kernel.assign_sub(rate · gradient).

    operation                               phases     scope_layers  gradient_lines      neighbours
    dense/MatMul/ReadVariableOp             forward    dense
    dense/MatMul                            forward    dense
    Sum                                     forward    ''            (none has it: loss(), its function)
    gradient_tape/dense/MatMul/MatMul_1     backward   dense         line of dense/MatMul
    mul (rate · gradient)                   update     ''                                dense, what it reads
    AssignSubVariableOp                     update     ''                                dense, who reads the variable

1. `phases` tells forward, backward, update and the rest apart: by the tape on the stack, and by what depends on it.
2. `scope_layers` takes the layer from the scope in the name: of a gradient, from the forward name that it bears.
3. `custom_gradient_layers` gives custom gradients, whose names have no scope, the layer whose values they read.
4. `gradient_lines` gives a gradient the line of the forward operation with its name that shares a tensor with it.
5. `neighbour_layers` and `neighbour_lines` fill what is missing from readers, operands and the variable's owner.

Every pass is given what those before it returned, and returns {name of an operation: what it found}, changing nothing.
"""

import itertools
import re
from collections.abc import Mapping

import tensorflow as tf

from tfcore.inspect.graph.tracebacks import TracedOp

Line = tuple[str, str]  # (file and line, function)

_GRADIENT_SCOPES = ("gradient_tape/", "gradients/")


class Ops:
    """The operations of a graph in their order, by name, with what they read and what reads them."""

    def __init__(self, ops: list[TracedOp]):
        self.all = ops
        self.by_name = {item.op.name: item for item in ops}

    def inputs(self, item: TracedOp) -> list[TracedOp]:
        """Return the operations whose results an operation reads."""
        names = (tensor.op.name for tensor in item.op.inputs)
        return [self.by_name[name] for name in names if name in self.by_name]

    def readers(self, item: TracedOp) -> list[TracedOp]:
        """Return the operations that read an operation's results."""
        names = (op.name for tensor in item.op.outputs for op in tensor.consumers())
        return [self.by_name[name] for name in names if name in self.by_name]


def phases(ops: Ops, caller: str) -> dict[str, str]:
    """Return the phase of each operation; `caller` that of the operation that calls the graph, '' for none."""
    if caller == "backward":
        return dict.fromkeys(ops.by_name, "backward")
    found: dict[str, str] = {}
    seen = False  # a gradient
    changed, late = set(), set()  # handles of variables that were updated; operations that read them afterwards
    for item in ops.all:
        name, read = item.op.name, ops.inputs(item)
        if item.gradient and not item.op.type.startswith("TensorListPush"):  # which saves a loop's values on the way
            seen, found[name] = True, "backward"
        elif name.startswith("update/") or any(found.get(x.op.name) in ("backward", "update") for x in read):
            found[name] = "update"
        elif not seen:
            found[name] = "forward"
        if found.get(name) == "update" and item.op.type.startswith("Assign"):
            changed.add(item.op.inputs[0].op.name)
        if any(x.op.name in changed or x.op.name in late for x in read):
            late.add(name)
    for item in reversed(ops.all):
        if item.op.name in found:
            continue
        readers = {found[reader.op.name] for reader in ops.readers(item) if reader.op.name in found}
        if readers & {"forward", "backward"}:
            found[item.op.name] = "forward"
        else:
            found[item.op.name] = "update" if "update" in readers or item.op.name in late else "other"
    for item in ops.all:
        if found[item.op.name] == "other" and any(found[x.op.name] == "update" for x in ops.inputs(item)):
            found[item.op.name] = "update"  # the count of updates
    return found


def forward_name(name: str) -> str:
    """Return the name of the forward operation for which a gradient was made, as far as the gradient's name says it."""
    while name.startswith(_GRADIENT_SCOPES):
        name = name.partition("/")[2]
    return name


def innermost(name: str, scopes: Mapping[str, str]) -> str:
    """Return what the innermost scope in which a name stands is called, '' for none."""
    while name:
        name = name.rpartition("/")[0]
        if name in scopes:
            return scopes[name]
    return ""


def scopes_of_names(ops: Ops) -> dict[str, str]:
    """Return, without modules of ours, such as in a Keras model, the scopes of the forward operations' names."""
    paths = (name.split("/")[:-1] for name in ops.by_name if not name.startswith(_GRADIENT_SCOPES))
    # What begins with a capital is TensorFlow's name for an operation of several parts.
    scopes = {"/".join(itertools.takewhile(lambda part: not part[0].isupper(), path)) for path in paths}
    return {scope: scope for scope in scopes - ops.by_name.keys() if scope}


def scopes_by_variables(scopes: Mapping[str, str], ops: Ops, graph: tf.Graph) -> dict[str, str]:
    """Return scopes with the names of the variables read there: TensorFlow counts a scope that was opened before.

    sequential_1/dense_1 reads sequential/dense/kernel: it is sequential/dense, and not the layer dense_1.
    """
    names = {id(variable.handle): variable.name.partition(":")[0] for variable in graph.variables}
    read = {inner.op.name: names[id(outer)] for outer, inner in graph.captures if id(outer) in names}
    whole = {"": ""}  # what each scope that is known is called, and those around it
    for item in ops.all:
        if item.op.type != "ReadVariableOp" or item.op.inputs[0].op.name not in read:
            continue
        scope = innermost(item.op.name, scopes).split("/")
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


def scope_layers(ops: Ops, scopes: Mapping[str, str], leave_out: set[str]) -> dict[str, str]:
    """Return the layer in whose scope each operation stands, or the one whose gradient it is; not of `leave_out`."""
    found = {name: innermost(forward_name(name), scopes) for name in ops.by_name if name not in leave_out}
    return {name: layer for name, layer in found.items() if layer}


def custom_gradient_layers(ops: Ops, phase: Mapping[str, str], layers: Mapping[str, str]) -> dict[str, str]:
    """Return the layers of custom gradients, whose names have no scope: that of the call whose values they read.

    TensorFlow ends the forward call with an IdentityN: it is the first one after the last value that is read.
    """
    places = {item.op.name: place for place, item in enumerate(ops.all)}
    ends = [place for place, item in enumerate(ops.all) if item.op.type == "IdentityN"]
    found: dict[str, str] = {}
    run: list[TracedOp] = []
    for item in (*ops.all, None):
        if item is not None and item.gradient and item.own_line and item.op.name not in layers:
            run.append(item)
            continue
        names = {x.op.name for member in run for x in ops.inputs(member)}
        read = [places[name] for name in names if phase[name] == "forward" and name in layers]
        end = next((place for place in ends if read and place >= max(read)), None)
        layer = layers.get(ops.all[end].op.name, "") if end is not None else ""
        found |= {member.op.name: layer for member in run if layer}
        run = [] if item is None or item.op.type != "Const" else run
    return found


def gradient_lines(ops: Ops) -> dict[str, Line]:
    """Return for gradients the line of the forward operation with their name, or of one in its scope that shares a
    tensor with them.
    """
    named: dict[str, list[tuple[int, TracedOp]]] = {}
    for place, item in enumerate(ops.all):
        if not item.gradient and item.source:
            for scope in (item.op.name, item.op.name.rpartition("/")[0]):
                named.setdefault(scope, []).append((place, item))
    found: dict[str, Line] = {}
    last: dict[str, int] = {}  # place in the forward pass at which each scope's gradients have arrived, from the end
    for item in ops.all:
        if not item.gradient or item.source:
            continue
        scope = forward_name(item.op.name)
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
        arrived = last.get(scope, len(ops.all))
        place, other = max(
            sharing or candidates,
            key=lambda pair: (pair[0] <= arrived, pair[0] if pair[0] <= arrived else -pair[0]),
        )
        found[item.op.name], last[scope] = (other.source, other.function), place
    return found


def neighbour_layers(ops: Ops, phase: Mapping[str, str], layers: Mapping[str, str]) -> dict[str, str]:
    """Return layers of what has none: sums of gradients from their readers, updates from their variable's owner."""
    owners: dict[str, str] = {}  # of a variable, by its handle's name: the layer that reads it
    for item in ops.all:
        if item.op.type == "ReadVariableOp" and phase[item.op.name] == "forward" and item.op.name in layers:
            owners.setdefault(item.op.inputs[0].op.name, layers[item.op.name])
    known = dict(layers)
    for item in reversed(ops.all):
        name = item.op.name
        if known.get(name):
            continue
        if phase[name] == "backward":
            readers = (reader.op.name for reader in ops.readers(item))
            known[name] = next((known[x] for x in readers if phase[x] == "backward" and known.get(x)), "")
        elif phase[name] == "update" and item.op.type.startswith(("Assign", "ResourceApply")):
            known[name] = owners.get(item.op.inputs[0].op.name, "")
        elif phase[name] == "update":
            known[name] = _only({known.get(reader.op.name, "") for reader in ops.readers(item)})
    for item in ops.all:
        if phase[item.op.name] == "update" and not known.get(item.op.name):
            read = (x.op.name for x in ops.inputs(item) if phase[x.op.name] in ("backward", "update"))
            known[item.op.name] = _only({known.get(name, "") for name in read})
    return {name: layer for name, layer in known.items() if layer and name not in layers}


def neighbour_lines(ops: Ops, phase: Mapping[str, str], lines: Mapping[str, Line]) -> dict[str, Line]:
    """Return lines of gradients that have none: their readers', else that which asked the tape for the gradient."""
    known = dict(lines)
    for item in reversed(ops.all):
        if phase[item.op.name] == "backward" and item.op.name not in known:
            readers = (reader.op.name for reader in ops.readers(item))
            line = next((known[x] for x in readers if phase[x] == "backward" and x in known), None)
            if line is not None:
                known[item.op.name] = line
    tapes = {item.op.name: item.tape for item in ops.all if item.gradient and item.op.name not in known}
    return {name: line for name, line in (known | tapes).items() if name not in lines}


def _only(layers: set[str]) -> str:
    """The one layer of several operations; '' where they are of several."""
    layers = layers - {""}
    return layers.pop() if len(layers) == 1 else ""
