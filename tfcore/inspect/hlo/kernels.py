"""The kernels of a compiled step: what each computes and moves, what was fused into it and where it comes from."""

import dataclasses
from collections.abc import Mapping

from tfcore.inspect.hlo.attribution import Attribution, fused
from tfcore.inspect.hlo.cost import kernel_cost
from tfcore.inspect.hlo.module import Computation, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import is_end, is_free
from tfcore.inspect.hlo.origins import Origin, Origins
from tfcore.inspect.hlo.runs import Branch, Run, find_runs, unit_names

_UNKNOWN = Origin("", "", "", "other")
_ALONE = frozenset(["sort", "scatter", "select-and-scatter", "rng-bit-generator", "fft"])
_LIBRARY = frozenset(("dot", "convolution", "custom-call"))


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One instruction that runs as a unit.

    `layer`, `source` and `phase` as in `tfcore.inspect.hlo.origins.Origin`, of the part of the kernel with most of its
    work in its latest phase; '' where unknown. `inferred` says that the compiler named no origin and that of the
    nearest reader (or else operand) was taken: copies and changes of layout. The counts (`tfcore.inspect.hlo.cost`) are
    of one step: those of one run, `runs` times; a kernel in a loop whose count is unknown is counted once and has
    `runs` None; `branch` tells which branch of a condition it stands in, None outside of all: in one that is not
    counted, `runs` is 0. `flops_again` are those of forward operations that a backward kernel computes, mostly once
    more.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]  # their shapes
    layer: str
    source: str
    phase: str
    op_type: str  # the author's, such as "Softmax"
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
    comparisons: int = 0
    bytes_sent: int = 0
    branch: Branch | None = None

    @property
    def bytes(self) -> int:
        """Bytes read and written in a step."""
        return self.bytes_read + self.bytes_written

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(part for part in (self.source, self.layer, self.op_type, self.phase) if part)}"


def find_kernels(module: HloModule, origins: Origins, seen: Mapping[str, int] | None = None) -> list[Kernel]:
    """Return the kernels of a module in the order of its schedule, those of loops in their loop's place.

    `seen`: how often each kernel ran in a step, as a profiler saw it: for loops whose count is unknown, and for which
    branch of a condition ran. Without it, of a condition's branches the dearest is counted. A computation that several
    call has its kernels once, with the runs of all.
    """
    attribution = Attribution(module, origins)
    runs: dict[tuple[str, str], Run] = {}
    for run in find_runs(module, seen or {}):
        item, computation = run.path[-1]
        before = runs.get((computation.name, item.name))
        runs[computation.name, item.name] = run if before is None else before.joined(run)
    names = unit_names(runs)
    return [_kernel(names[key], run, module, attribution) for key, run in runs.items()]


def _kernel(name: str, run: Run, module: HloModule, attribution: Attribution) -> Kernel:
    instruction, computation = run.path[-1]
    times = 1 if run.runs is None else run.runs
    cost = kernel_cost(instruction, computation, module).times(times)
    parts = attribution.parts(instruction, computation)
    found, inferred = attribution.ranked(instruction, computation), False
    if not found:
        found, inferred = attribution.neighbours(run.path), True
    first = found[0] if found else _UNKNOWN
    again = sum(work.flops for origin, work, _ in parts if origin.again or origin.phase == "forward")
    inside = [item for item, _ in fused(instruction, computation, module) if item is not instruction]
    names = (f"{item.opcode} {item.metadata.op_name}".strip() for item in inside if not is_free(item.opcode))
    return Kernel(
        name=name,
        opcode=instruction.opcode,
        shape=str(instruction.shape),
        operands=tuple(str(computation.instructions[name].shape) for name in instruction.operands),
        layer=first.layer,
        source=first.source,
        phase=first.phase,
        op_type="" if inferred else first.op_type,
        inferred=inferred,
        **vars(cost),
        flops_again=again * times if first.phase == "backward" else 0,
        runs=run.runs,
        fused_ops=tuple(names),
        origins=tuple(found),
        why_alone=_why_alone(instruction, computation),
        branch=run.branch,
    )


def _why_alone(instruction: Instruction, computation: Computation) -> str:
    """Why a kernel's result is written to memory and not fused into its reader, where that can be known."""
    config = instruction.config.get("fusion_config", {})
    config = config.get("kind", "") if isinstance(config, dict) else ""
    if instruction.opcode in _LIBRARY or config:
        target = instruction.attributes.get("custom_call_target", "").strip('"') or config.strip("_")
        return f"library call ({target or instruction.opcode})"
    if instruction.opcode in _ALONE:
        return f"a {instruction.opcode} runs alone"
    users, seen = [], [instruction.name]
    for name in seen:  # names for parts of the result are no readers
        for user in computation.users[name]:
            opcode = computation.instructions[user].opcode
            if opcode in ("bitcast", "get-tuple-element") or is_end(opcode):
                seen.append(user)
            else:
                users.append(user)
    if any(name == computation.root for name in users) or computation.root in seen:
        return "its result leaves the computation"
    readers = [computation.instructions[name] for name in users]
    if any(reader.opcode in ("while", "conditional", "call") for reader in readers):
        return "its result enters a loop or a call"
    libraries = [reader for reader in readers if reader.opcode in _LIBRARY or "fusion_config" in reader.config]
    if readers and len(libraries) == len(readers):
        return f"read by a library call ({libraries[0].opcode})"
    if len(readers) > 1:
        return f"read by {len(readers)} kernels"
    return ""
