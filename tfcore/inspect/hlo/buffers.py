"""Memory of a compiled step over its schedule: what lives where, the peak and the largest buffers at it.

Two ways, and a report says which one it took. "assignment": the sizes are those of XLA's own buffer assignment, which a
profile holds, a dump (`--xla_dump_to`), or TensorFlow's stage "optimized_hlo_proto_serialized" (costs a compilation).
"estimate": those of the results, laid out as `liveness` says, without the space that library calls take for themselves.
"""

import dataclasses
import re
from collections.abc import Sequence

from tensorflow.compiler.xla.service import hlo_pb2

from tfcore.inspect.hlo.liveness import Life, lives
from tfcore.inspect.hlo.module import HloModule

_ALLOCATION = re.compile(r"allocation \d+: size (\d+),?(.*)")
_VALUE = re.compile(r"\s+value: <\d+ ([^\s{>]+)(?:\{[\d,]*\})? @\d+> \(size=(\d+)")


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A buffer that lives at the peak, by the name of the instruction that fills it; `bytes` is its size."""

    name: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Memory:
    """Peak memory of a step in bytes: arguments (with the variables), and all else at the worst moment.

    `method` is "assignment" or "estimate", see the module's text. `lives`: all buffers beside the arguments, over the
    instructions of `schedule`, in which what a loop runs stands once. `largest`: those at `peak_at`, where most live,
    the largest first. `spaces`: peaks of other memory than the device's own, by its number (5: the host's). Of an
    assignment, `peak_bytes` is what XLA reserves, which may be more than what lives at once.
    """

    method: str
    peak_bytes: int
    argument_bytes: int
    largest: tuple[Buffer, ...]
    lives: tuple[Life, ...] = ()
    schedule: tuple[str, ...] = ()
    peak_at: int = 0
    spaces: dict[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Allocation:
    """A part of memory that XLA reserves: the values that lie there in their turn, as (instruction, bytes)."""

    bytes: int
    is_argument: bool
    values: tuple[tuple[str, int], ...]


def estimate(module: HloModule, count: int = 10) -> Memory:
    """Return the memory of a scheduled module from the lives of its results.

    Raises:
        ValueError: for a module without a schedule, such as HLO as built.
    """
    if not module.is_scheduled:
        raise ValueError("memory needs the order in which instructions run: take the stage optimized_hlo")
    found, schedule = lives(module)
    shapes = [parameter.shape for parameter in module.entry.parameters.values()]
    parts = [part for shape in shapes for part in (shape.parts or (shape,))]
    arguments = sum(part.bytes for part in parts if not part.space)
    spaces = {life.space for life in found} | {part.space for part in parts}
    peaks = {
        space: _peak([life for life in found if life.space == space], len(schedule))[0]
        + sum(part.bytes for part in parts if part.space == space)
        for space in spaces - {0}
    }
    own = [life for life in found if not life.space]
    peak, at = _peak(own, len(schedule))
    return Memory(
        "estimate", arguments + peak, arguments, _largest(own, at, count), tuple(own), tuple(schedule), at, peaks
    )


def from_assignment(allocations: Sequence[Allocation], module: HloModule, count: int = 10) -> Memory:
    """Return the memory that XLA's buffer assignment lays out for a scheduled module."""
    found, schedule = lives(module)
    sizes: dict[str, int] = {}
    for allocation in allocations:
        if not allocation.is_argument:
            for name, size in allocation.values:
                sizes[name] = sizes.get(name, 0) + size
    spans: dict[str, Life] = {}
    for life in found:
        if life.name in sizes:
            span = spans.setdefault(life.name, Life(life.name, sizes[life.name], life.begin, life.end))
            span.begin, span.end = min(span.begin, life.begin), max(span.end, life.end)
    total = sum(allocation.bytes for allocation in allocations)
    arguments = sum(allocation.bytes for allocation in allocations if allocation.is_argument)
    own = list(spans.values())
    _, at = _peak(own, len(schedule))
    return Memory("assignment", total, arguments, _largest(own, at, count), tuple(own), tuple(schedule), at)


def allocations_of_proto(proto: hlo_pb2.HloProto) -> list[Allocation]:
    """Return the allocations of an HloProto, as "optimized_hlo_proto_serialized", a profile or a dump hold it.

    Raises:
        ValueError: for a proto without a buffer assignment.
    """
    if not proto.buffer_assignment.buffer_allocations:
        raise ValueError("the HLO proto holds no buffer assignment")
    names = {item.id: item.name for part in proto.hlo_module.computations for item in part.instructions}
    buffers = {item.id: item for item in proto.buffer_assignment.logical_buffers}
    return [
        Allocation(
            allocation.size,
            allocation.is_entry_computation_parameter,
            tuple(
                (names.get(buffers[part.logical_buffer_id].defined_at.instruction_id, ""), part.size)
                for part in allocation.assigned
                if part.logical_buffer_id in buffers
            ),
        )
        for allocation in proto.buffer_assignment.buffer_allocations
        if not allocation.is_thread_local
    ]


def allocations_of_text(text: str) -> list[Allocation]:
    """Return the allocations of a dump's *buffer-assignment.txt."""
    found: list[tuple[int, str, list[tuple[str, int]]]] = []
    for line in text.splitlines():
        if head := _ALLOCATION.match(line):
            found.append((int(head[1]), head[2], []))
        elif found and (value := _VALUE.match(line)):
            found[-1][2].append((value[1], int(value[2])))
    return [
        Allocation(size, " parameter " in kind, tuple(values))
        for size, kind, values in found
        if "thread-local" not in kind
    ]


def _peak(found: Sequence[Life], places: int) -> tuple[int, int]:
    """(bytes at the worst moment, its place in the schedule)."""
    change = [0] * (places + 2)
    for life in found:
        change[life.begin] += life.bytes
        change[min(life.end, places + 1)] -= life.bytes
    total, peak, at = 0, 0, 0
    for place in range(places + 1):
        total += change[place]
        if total > peak:
            peak, at = total, place
    return peak, at


def _largest(found: Sequence[Life], at: int, count: int) -> tuple[Buffer, ...]:
    alive: dict[str, int] = {}
    for life in found:
        if life.begin <= at < life.end:
            alive[life.name] = alive.get(life.name, 0) + life.bytes
    ranked = sorted(alive.items(), key=lambda pair: -pair[1])
    return tuple(Buffer(name, size) for name, size in ranked[:count])
