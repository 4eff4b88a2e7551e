"""Memory of a compiled step: its peak and the largest buffers that live at it.

Two ways, and a report says which one it took. "assignment": XLA's own buffer assignment, where this TensorFlow can give
it (stage "optimized_hlo_proto_serialized"; costs a compilation). "estimate": the lives of all results in the schedule's
order, where an elementwise fusion writes over an operand of its size that is read for the last time, and updated
variables stay where they are; without the space that library calls take for themselves.
"""

import dataclasses
import re
from collections.abc import Set

from tensorflow.compiler.xla.service import hlo_pb2

from tfcore.inspect.hlo.cost import FREE
from tfcore.inspect.hlo.parser import Computation, Module

_ALIASES = frozenset(["bitcast", "get-tuple-element", "tuple", "while", "conditional", "opt-barrier", "add-dependency"])


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A buffer that lives at the peak, by the name of the instruction that fills it; `bytes` is its size."""

    name: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Memory:
    """Peak memory of a step in bytes: arguments (with the variables), and all else at the worst moment.

    `method` is "assignment" or "estimate", see the module's text; `largest` holds the largest buffers at the peak, no
    arguments among them, the largest first.
    """

    method: str
    peak_bytes: int
    argument_bytes: int
    largest: tuple[Buffer, ...]


def estimate(module: Module, count: int = 10) -> Memory:
    """Return the memory of a scheduled module from the lives of its results.

    Raises:
        ValueError: for a module without a schedule, such as HLO as built.
    """
    if not module.is_scheduled:
        raise ValueError("memory needs the order in which instructions run: take the stage optimized_hlo")
    arguments = sum(parameter.shape.bytes for parameter in module.entry.parameters.values())
    peak, live = _peak(module.entry, module, _in_place(module))
    return Memory("estimate", arguments + peak, arguments, _largest(live, count))


def _in_place(module: Module) -> set[str]:
    """The instructions of the entry whose result takes an argument's place: variables that the step updates."""
    root = module.entry.instructions[module.entry.root]
    if root.opcode != "tuple":
        return set()
    # input_output_alias={ {0}: (6, {}, may-alias), ...}: result 0 lies where argument 6 lay.
    places = re.findall(r"\{(\d+)\}: \(\d+, \{\}, \w+-alias\)", module.header)
    sources = _sources(module.entry)
    return {name for place in places for name in sources[root.operands[int(place)]]}


def _peak(computation: Computation, module: Module, placed: Set[str] = frozenset()) -> tuple[int, dict[str, int]]:
    """(bytes at the worst moment, live buffers then); neither what it is given counts nor what takes that place."""
    sources = _sources(computation)
    last: dict[str, int] = {}  # place of each buffer's last reader
    order = list(computation.instructions.values())
    for place, instruction in enumerate(order):
        for operand in instruction.operands:
            last.update(dict.fromkeys(sources[operand], place))
    last.update(dict.fromkeys(sources[computation.root], len(order)))
    ends: dict[int, list[str]] = {}
    for name, place in last.items():
        ends.setdefault(place, []).append(name)
    live: dict[str, int] = {}
    total, peak, at_peak = 0, 0, {}
    for place, instruction in enumerate(order):
        if instruction.opcode not in FREE | _ALIASES and instruction.name not in placed:
            if instruction.attributes.get("kind") == "kLoop":
                operands = (name for operand in instruction.operands for name in sources[operand])
                dying = (name for name in operands if last[name] == place)
                over = next((name for name in dying if live.get(name) == instruction.shape.bytes), "")
                total -= live.pop(over, 0)
            live[instruction.name] = instruction.shape.bytes
            total += instruction.shape.bytes
        inside, inside_live = 0, {}
        if instruction.opcode in ("while", "call", "conditional"):
            parts = (_peak(module.computations[name], module) for name in instruction.calls)
            inside, inside_live = max(parts, key=lambda part: part[0])
        if total + inside > peak:
            peak, at_peak = total + inside, live | inside_live
        for name in (*ends.get(place, ()), *((instruction.name,) if instruction.name not in last else ())):
            total -= live.pop(name, 0)
    return peak, at_peak


def _sources(computation: Computation) -> dict[str, tuple[str, ...]]:
    """The instructions whose buffers each result lies in: its own, or for names of parts the operands'."""
    sources: dict[str, tuple[str, ...]] = {}
    for name, instruction in computation.instructions.items():
        if instruction.opcode in _ALIASES:
            sources[name] = tuple(
                dict.fromkeys(found for operand in instruction.operands for found in sources[operand])
            )
        else:
            sources[name] = (name,)
    return sources


def from_assignment(serialized: bytes, count: int = 10) -> Memory:
    """Return the memory that XLA's buffer assignment lays out: an HloProto, as "optimized_hlo_proto_serialized" gives.

    Raises:
        ValueError: for a proto without a buffer assignment.
    """
    proto = hlo_pb2.HloProto.FromString(serialized)
    if not proto.buffer_assignment.buffer_allocations:
        raise ValueError("the HLO proto holds no buffer assignment")
    names = {item.id: item.name for part in proto.hlo_module.computations for item in part.instructions}
    buffers = {item.id: item for item in proto.buffer_assignment.logical_buffers}
    total, arguments, live = 0, 0, {}
    for allocation in proto.buffer_assignment.buffer_allocations:
        if allocation.is_thread_local:
            continue
        total += allocation.size
        if allocation.is_entry_computation_parameter:
            arguments += allocation.size
        elif len(allocation.assigned) == 1:
            only = buffers[allocation.assigned[0].logical_buffer_id]
            live[names[only.defined_at.instruction_id]] = only.size
    for trace in proto.buffer_assignment.heap_simulator_traces:
        live |= _replay(trace, buffers, names)
    return Memory("assignment", total, arguments, _largest(live, count))


def _replay(trace, buffers: dict, names: dict[int, str]) -> dict[str, int]:
    """The buffers in a heap at its fullest: its events are allocations, releases and shared uses."""
    live: dict[int, int] = {}
    total, peak, at_peak = 0, 0, {}
    for event in trace.events:
        if event.kind == event.FREE:
            total -= live.pop(event.buffer_id, 0)
        elif event.kind == event.ALLOC:
            live[event.buffer_id] = buffers[event.buffer_id].size
            total += live[event.buffer_id]
        if total > peak:
            peak, at_peak = total, dict(live)
    return {names[buffers[number].defined_at.instruction_id]: size for number, size in at_peak.items()}


def _largest(live: dict[str, int], count: int) -> tuple[Buffer, ...]:
    ranked = sorted(live.items(), key=lambda pair: -pair[1])
    return tuple(Buffer(name, size) for name, size in ranked[:count])
