"""The kernels of a compiled step: what each computes and moves, what was fused into it and where it comes from."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

from tfcore.inspect.graph.origins import Origin, Origins
from tfcore.inspect.hlo.cost import FREE, Cost, instruction_config, kernel_cost, trip_count, work
from tfcore.inspect.hlo.parser import Computation, Instruction, Module

# An instruction and its computation, after the loops and calls in which they stand.
Path = tuple[tuple[Instruction, Computation], ...]

_PHASES = ("update", "backward", "other", "forward")
_UNKNOWN = Origin("", "", "", "other")
# Instructions that say nothing about what a fusion is for.
_SILENT = FREE | {"iota"}
_ALONE = frozenset(["sort", "scatter", "select-and-scatter", "rng-bit-generator", "fft"])
_LIBRARY = frozenset(("dot", "convolution", "custom-call"))


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One instruction that runs as a unit.

    `layer`, `source` and `phase` as in `graph.origins.Origin`, of the part of the kernel with most of its work
    in its latest phase; '' where unknown. `inferred` says that the compiler named no origin and that of the nearest
    reader (or else operand) was taken: copies and changes of layout. The counts (`tfcore.inspect.hlo.cost`) are of one
    step: those of one run, `runs` times; a kernel in a loop whose count is unknown is counted once and has `runs` None.
    `flops_again` are those of forward operations that a backward kernel computes, mostly once more.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]  # their shapes
    layer: str
    source: str
    phase: str
    op_type: str  # TensorFlow's, such as "Softmax"
    inferred: bool
    flops: int
    transcendentals: int
    integer_ops: int
    bytes_read: int
    bytes_written: int
    counted: bool
    flops_again: int
    runs: int | None
    fused_ops: tuple[str, ...]  # "opcode op_name" of what was fused in, in order
    origins: tuple[Origin, ...]  # of all its parts, in that order
    why_alone: str  # why it was not fused with its readers; "" where that is not known

    @property
    def bytes(self) -> int:
        """Bytes read and written in a step."""
        return self.bytes_read + self.bytes_written

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(part for part in (self.source, self.layer, self.op_type, self.phase) if part)}"


def find_kernels(module: Module, origins: Origins) -> list[Kernel]:
    """Return the kernels of a module in the order of its schedule, those of loops in their loop's place."""
    return [_kernel(path, runs, module, origins) for path, runs in _places(module, module.entry, 1, ())]


def _places(
    module: Module, computation: Computation, runs: int | None, outer: Path
) -> Iterator[tuple[Path, int | None]]:
    """(path to it, runs in a step) of everything that runs as a unit, loops and calls opened.

    All branches of a condition are counted, since which one runs is not known.
    """
    for instruction in computation.instructions.values():
        path = (*outer, (instruction, computation))
        if instruction.opcode in ("while", "call", "conditional", "async-start"):
            times = trip_count(instruction) if instruction.opcode == "while" else 1
            inside = None if runs is None or times is None else runs * times
            for name in instruction.calls:
                yield from _places(module, module.computations[name], inside, path)
        elif instruction.opcode not in FREE:
            yield path, runs


def _kernel(path: Path, runs: int | None, module: Module, origins: Origins) -> Kernel:
    instruction, computation = path[-1]
    times = 1 if runs is None else runs
    cost = kernel_cost(instruction, computation, module).times(times)
    parts = _parts(instruction, computation, module, origins)
    found, inferred = _ranked(parts), False
    if not found:
        found, inferred = _neighbours(path, module, origins), True
    first = found[0] if found else _UNKNOWN
    again = (
        sum(work.flops for origin, work, _ in parts if origin.phase == "forward") if first.phase == "backward" else 0
    )
    inside = module.computations[instruction.calls[0]].instructions.values() if instruction.opcode == "fusion" else ()
    fused = (f"{item.opcode} {item.metadata.op_name}".strip() for item in inside if item.opcode not in FREE)
    return Kernel(
        name=instruction.name,
        opcode=instruction.opcode,
        shape=str(instruction.shape),
        operands=tuple(str(computation.instructions[name].shape) for name in instruction.operands),
        layer=first.layer,
        source=first.source,
        phase=first.phase,
        op_type="" if inferred else first.op_type,
        inferred=inferred,
        **dataclasses.asdict(cost),
        flops_again=again * times,
        runs=runs,
        fused_ops=tuple(fused),
        origins=tuple(found),
        why_alone=_why_alone(instruction, computation),
    )


def _parts(
    instruction: Instruction, computation: Computation, module: Module, origins: Origins
) -> list[tuple[Origin, Cost, int]]:
    """(origin, work, size of the result) of an instruction and of what is fused into it, where they have an origin."""
    pairs = [(instruction, computation)]
    if instruction.opcode == "fusion":
        inside = module.computations[instruction.calls[0]]
        pairs = [(item, inside) for item in inside.instructions.values() if item.opcode not in _SILENT]
    parts = [
        (origin, work(item, place, module), item.shape.elements + (item.name == place.root))
        for item, place in pairs
        if (origin := origins.find(item.metadata.op_name))
    ]
    if not parts and (origin := origins.find(instruction.metadata.op_name)):
        return [(origin, Cost(), instruction.shape.elements)]
    return parts


def _ranked(parts: list[tuple[Origin, Cost, int]]) -> list[Origin]:
    """The origins of a kernel's parts, that with the most work first.

    Those of the latest phase go before all others: a kernel that computes forward values for a gradient belongs to the
    backward pass.
    """
    weights: Counter[Origin] = Counter()
    lines: Counter[tuple[str, str, str]] = Counter()  # a line of a layer may have made several operations
    for origin, cost, size in parts:
        weight = cost.flops + cost.transcendentals + cost.integer_ops + size
        weights[origin] += weight
        lines[origin.layer, origin.source, origin.phase] += weight
    return sorted(weights, key=lambda x: (_PHASES.index(x.phase), -lines[x.layer, x.source, x.phase], -weights[x]))


def _neighbours(path: Path, module: Module, origins: Origins) -> list[Origin]:
    """The origin of the nearest instruction that reads a kernel's result, else of the nearest that it reads itself.

    Where a fusion reads it, the origin is that of the part that does. In a loop or a call without any, the loop's own.
    """
    for instruction, computation in reversed(path):
        if instruction is not path[-1][0]:
            found = _ranked(_parts(instruction, computation, module, origins))
            if found:
                return found[:1]
        for readers in (True, False):
            seen, border = {instruction.name}, [instruction.name]
            while border:
                steps = [
                    (at, name)
                    for at in border
                    for name in (computation.users[at] if readers else computation.instructions[at].operands)
                    if name not in seen
                ]
                for at, name in steps:
                    other = computation.instructions[name]
                    found = readers and _reading_part(at, other, module, origins)
                    found = found or _ranked(_parts(other, computation, module, origins))
                    if found:
                        return found[:1]
                border = list(dict.fromkeys(name for _, name in steps))
                seen.update(border)
    return []


def _reading_part(name: str, reader: Instruction, module: Module, origins: Origins) -> list[Origin]:
    """The origin of the part of a fusion that reads an operand."""
    if reader.opcode != "fusion":
        return []
    inside = module.computations[reader.calls[0]]
    users = inside.users[inside.parameters[reader.operands.index(name)].name]
    found = (origins.find(inside.instructions[user].metadata.op_name) for user in users)
    return [origin for origin in found if origin is not None]


def _why_alone(instruction: Instruction, computation: Computation) -> str:
    """Why a kernel's result is written to memory and not fused into its reader, where that can be known."""
    config = instruction_config(instruction).get("fusion_config", {}).get("kind", "")
    if instruction.opcode in _LIBRARY or config:
        target = instruction.attributes.get("custom_call_target", "").strip('"') or config.strip("_")
        return f"library call ({target or instruction.opcode})"
    if instruction.opcode in _ALONE:
        return f"a {instruction.opcode} runs alone"
    users, seen = [], [instruction.name]
    for name in seen:  # names for parts of the result are no readers
        for user in computation.users[name]:
            if computation.instructions[user].opcode in ("bitcast", "get-tuple-element"):
                seen.append(user)
            else:
                users.append(user)
    if any(name == computation.root for name in users) or computation.root in seen:
        return "its result leaves the computation"
    readers = [computation.instructions[name] for name in users]
    if any(reader.opcode in ("while", "conditional", "call") for reader in readers):
        return "its result enters a loop or a call"
    libraries = [reader for reader in readers if reader.opcode in _LIBRARY or "fusion_config" in str(reader.attributes)]
    if readers and len(libraries) == len(readers):
        return f"read by a library call ({libraries[0].opcode})"
    if len(readers) > 1:
        return f"read by {len(readers)} kernels"
    return ""
