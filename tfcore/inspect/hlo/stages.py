"""Before and after the compiler: a step's operations in TensorFlow's graph, in HLO as built and as optimized."""

import dataclasses
from collections import Counter
from collections.abc import Mapping

from tfcore.inspect.hlo.cost import work
from tfcore.inspect.hlo.module import Computation, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import RUNS_OTHERS
from tfcore.inspect.hlo.origins import Origin, Origins

# Names and constants, no operations.
_NOTHING = frozenset(["parameter", "constant", "tuple", "get-tuple-element"])
_WHOLES = RUNS_OTHERS | {"fusion"}
# Data movement that disappears as a matter of course.
_MOVES = frozenset(["bitcast", "reshape", "broadcast", "transpose", "copy", "convert", "iota", "slice", "concatenate"])


@dataclasses.dataclass(frozen=True)
class Gone:
    """An operation of the built HLO, one that computes, that no longer stands in the optimized one.

    `reason`: "same as NAME": a common subexpression, computed there; "result unused": dead code; "" where it was
    simplified, folded into a constant or merged with another one, which the compiler does not tell.
    """

    op_name: str
    op_type: str
    opcodes: tuple[str, ...]
    layer: str
    source: str
    flops: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Stages:
    """Counts of operations by layer ('' for unknown): in the graph, in HLO as built, as optimized; and what is gone.

    `graph` is empty where there is none of TensorFlow's. `optimized` counts what stands inside fusions too: an
    operation that two fusions repeat counts twice. `kernels` are the units in which it runs.
    """

    graph: dict[str, int]
    built: dict[str, int]
    optimized: dict[str, int]
    kernels: dict[str, int]
    gone: tuple[Gone, ...]


def compare_stages(
    built: tuple[HloModule, Origins],
    optimized: tuple[HloModule, Origins],
    *,
    kernels: Mapping[str, int],
    graph: Mapping[str, int],
) -> Stages:
    """Return the stages side by side; `kernels` and `graph` count kernels and the graph's operations by layer."""
    layers = [
        Counter(
            next((origin.layer for origin in origins.of(item, part.name)), "") for item, part in _operations(module)
        )
        for module, origins in (built, optimized)
    ]
    gone = _gone(*built, optimized[0])
    return Stages(dict(graph), dict(layers[0]), dict(layers[1]), dict(kernels), gone)


def _operations(module: HloModule) -> list[tuple[Instruction, Computation]]:
    """All instructions that compute, but for the scalar functions of reductions and for fusions as such."""
    scalar = {
        name
        for computation in module.computations.values()
        for item in computation.instructions.values()
        if item.opcode in ("reduce", "reduce-window", "scatter", "select-and-scatter", "sort", "map")
        for name in item.calls
    }
    return [
        (item, computation)
        for computation in module.computations.values()
        if computation.name not in scalar
        for item in computation.instructions.values()
        if item.opcode not in _NOTHING and item.opcode not in _WHOLES
    ]


def _gone(built: HloModule, origins: Origins, optimized: HloModule) -> tuple[Gone, ...]:
    left = {item.metadata.op_name for part in optimized.computations.values() for item in part.instructions.values()}
    lost: dict[str, list[Instruction]] = {}
    made_by: dict[str, Origin] = {}
    flops, all_work = Counter(), Counter()
    for item, computation in _operations(built):
        if item.metadata.op_name and item.metadata.op_name not in left:
            lost.setdefault(item.metadata.op_name, []).append(item)
            if makers := origins.of(item, computation.name):
                made_by.setdefault(item.metadata.op_name, makers[0])
            cost = work(item, computation, built)
            flops[item.metadata.op_name] += cost.flops
            all_work[item.metadata.op_name] += cost.flops + cost.transcendentals + cost.integer_ops
    reasons, unnamed = _reasons(built), _unnamed_products(optimized)
    found = []
    for op_name, items in lost.items():
        if not all_work[op_name]:
            continue
        origin = made_by.get(op_name) or Origin(items[0].metadata.op_type, "", "", "")
        known = [reasons[item.name] for item in items if item.name in reasons and item.opcode not in _MOVES]
        product = any(item.opcode == "dot" for item in items)
        if product and not known and unnamed[flops[op_name]]:
            # It still runs: XLA turned it round, and dropped its name.
            unnamed[flops[op_name]] -= 1
            continue
        found.append(
            Gone(
                op_name,
                items[0].metadata.op_type or origin.op_type,
                tuple(item.opcode for item in items),
                origin.layer,
                origin.source,
                flops[op_name],
                known[-1] if known else "",
            )
        )
    return tuple(sorted(found, key=lambda gone: -gone.flops))


def _unnamed_products(optimized: HloModule) -> Counter[int]:
    """{FLOPs: how many matrix products of so many stand in the optimized HLO without the name of an operation}."""
    return Counter(
        work(item, computation, optimized).flops
        for item, computation in _operations(optimized)
        if item.opcode == "dot" and not item.metadata.op_name
    )


def _reasons(built: HloModule) -> dict[str, str]:
    """{name of an instruction: why it need not run}: it equals one before it, or nothing reads it."""
    reasons: dict[str, str] = {}
    for computation in built.computations.values():
        numbers: dict[tuple, int] = {}  # of each different computation
        value: dict[str, int] = {}
        first: dict[int, Instruction] = {}
        for item in computation.instructions.values():
            own = item.name if item.opcode in ("parameter", "rng", "custom-call", "rng-bit-generator") else item.payload
            attributes = tuple(sorted((key, text) for key, text in item.attributes.items() if key != "to_apply"))
            key = (item.opcode, str(item.shape), own, attributes, tuple(value[name] for name in item.operands))
            value[item.name] = numbers.setdefault(key, len(numbers))
            same = first.setdefault(value[item.name], item)
            if same is not item:
                reasons[item.name] = f"same as {same.metadata.op_name or same.name}"
        alive, border = {computation.root}, [computation.root]
        while border:
            border = [name for at in border for name in computation.instructions[at].operands if name not in alive]
            alive.update(border)
        reasons |= {name: "result unused" for name in computation.instructions if name not in alive}
    return reasons
