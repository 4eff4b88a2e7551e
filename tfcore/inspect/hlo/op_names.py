"""Names of operations in HLO taken apart: the layer, the operation and the phase that JAX and TensorFlow write there.

    jit(train_step)/transpose(jvp(Net))/blocks_0/attention/...hqk,...khd->...qhd/transpose
    -> layer Net/blocks_0/attention, operation transpose, backward

JAX writes its transformations around the scopes in which they take place: `jvp` computes forward what a gradient needs,
`transpose` runs it backward. Flax, Keras and `jax.named_scope` write the scopes. TensorFlow writes the scopes of the
graph, with "gradient_tape/" before those of gradients. Merged operations have their names joined by ';' or ':'.
"""

import dataclasses
import re

_DROPPED = re.compile(
    r"jit|pjit|while|body|cond|scan|closed_call|core_call|checkpoint|remat2?|rematted_computation|shard_map|"
    r"custom_[jv][vj]p_call\w*|branch_\d+_fun|(Stateful|Stateless)?PartitionedCall(_\d+)?|XlaLaunch|_\d+|.*->.*"
)
_WRAPPER = re.compile(r"(?P<kind>\w+)\((?P<inside>.*)\)$", re.DOTALL)
_UNWRAPPED = ("jvp", "transpose", "vmap", "pmap", "remat", "checkpoint", "shard_map")
_METHOD = re.compile(r"\.(<lambda>|apply|__call__)$")
_OPERATION = re.compile(r"[A-Z]\w*")
_NUMBERED = re.compile(r"_\d+$")
_GRADIENTS = ("gradient_tape/", "gradients/")


@dataclasses.dataclass(frozen=True)
class Name:
    """One operation's name. `phase`: "backward", "forward" where the name says so, "" where it does not."""

    layer: str
    operation: str
    phase: str
    again: bool = False


def is_jax(op_name: str) -> bool:
    """Return whether JAX wrote the name, and wrote it whole: it begins with the function that was compiled."""
    return re.match(r"(p?jit|pmap|xmap)\(", op_name) is not None


def split(op_name: str, op_type: str = "") -> list[Name]:
    """Return the operations that a name names, in their order, each once; [] for no name."""
    whole = [name for part in op_name.split(";") for name in _expanded(part.strip()) if name]
    return list(dict.fromkeys(_name(name, op_type) for name in whole))


def _expanded(name: str) -> list[str]:
    """a/(b/c:d)/e -> [a/b/c/e, a/d/e]: merged operations share what stands around the brackets."""
    segments = _cut(name, "/")
    for place, segment in enumerate(segments):
        if segment.startswith("(") and segment.endswith(")") and ":" in segment:
            before, behind = segments[:place], segments[place + 1 :]
            return [
                full for inner in _cut(segment[1:-1], ":") for full in _expanded("/".join([*before, inner, *behind]))
            ]
    return [name]


def _name(name: str, op_type: str) -> Name:
    backward = "transpose(" in name or name.startswith(_GRADIENTS) or "_backward" in op_type
    again = backward and "rematted_computation" in name
    phase = "backward" if backward else "forward" if "jvp(" in name else ""
    while name.startswith(_GRADIENTS):
        name = name.partition("/")[2]
    *scopes, last = _cut(name, "/")
    operation = re.sub(r"\[.*\]$", "", last, flags=re.DOTALL) or last  # older JAX: dot_general[precision=None]
    if found := _WRAPPER.match(operation):
        operation = "" if found["kind"] in _UNWRAPPED else found["inside"]
    layers: list[str] = []
    for scope in scopes:
        for layer in _unwrapped(scope):
            # Dropout_0/Dropout.__call__: the second says the same.
            if not layers or layer not in (layers[-1], _NUMBERED.sub("", layers[-1])):
                layers.append(layer)
    if op_type and not is_jax(name):
        while layers and _OPERATION.fullmatch(layers[-1]) and (len(layers) > 1 or layers[-1] in (op_type, operation)):
            layers.pop()  # TensorFlow's name for an operation of several parts
    return Name("/".join(layers), operation, phase, again)


def _unwrapped(scope: str) -> list[str]:
    """The layers that a scope stands for: transpose(jvp(Net)) -> [Net]; [] for a transformation alone."""
    while found := _WRAPPER.match(scope):
        if found["kind"] not in _UNWRAPPED:
            return [] if _DROPPED.fullmatch(found["kind"]) else [scope]
        scope = found["inside"]
        if "/" in scope:
            return [layer for part in _cut(scope, "/") for layer in _unwrapped(part)]
    scope = _METHOD.sub("", scope)
    return [] if not scope or _DROPPED.fullmatch(scope) else [scope]


def _cut(text: str, mark: str) -> list[str]:
    """The parts between marks that stand in no bracket; between all marks where the brackets do not match."""
    parts, depth, begin = [], 0, 0
    for place, letter in enumerate(text):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == mark and depth == 0:
            parts.append(text[begin:place])
            begin = place + 1
    return text.split(mark) if depth else [*parts, text[begin:]]
