"""The origin of a kernel: that of its parts with the most work, or of the nearest that has one."""

from collections import Counter, deque
from collections.abc import Iterator

from tfcore.inspect.hlo.cost import Cost, work
from tfcore.inspect.hlo.module import Computation, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import FREE
from tfcore.inspect.hlo.origins import PHASES, Origin, Origins
from tfcore.inspect.hlo.runs import Path

# Instructions that say nothing about what a fusion is for.
_SILENT = FREE | {"iota"}
# An origin, the work and the size of the result of one part of a kernel.
Part = tuple[Origin, Cost, int]


def fused(item: Instruction, computation: Computation, module: HloModule) -> Iterator[tuple[Instruction, Computation]]:
    """Yield what a kernel consists of: the instruction, or all that stands in a fusion, and in fusions inside."""
    if item.opcode != "fusion":
        yield item, computation
        return
    inside = module.computations[item.calls[0]]
    for inner in inside.instructions.values():
        yield from fused(inner, inside, module)


class Attribution:
    """Who made the kernels of a module; `origins` tells it of single instructions."""

    def __init__(self, module: HloModule, origins: Origins):
        self._module, self._origins = module, origins
        self._parts: dict[tuple[str, str], list[Part]] = {}
        self._nearest: dict[str, dict[str, Origin]] = {}

    def parts(self, item: Instruction, computation: Computation) -> list[Part]:
        """Return (origin, work, size of the result) of an instruction and of what is fused into it, where known."""
        key = computation.name, item.name
        if key not in self._parts:
            self._parts[key] = self._find_parts(item, computation)
        return self._parts[key]

    def ranked(self, item: Instruction, computation: Computation) -> list[Origin]:
        """Return the origins of a kernel's parts, that with the most work first.

        Those of the latest phase go before all others: a kernel that computes forward values for a gradient belongs to
        the backward pass.
        """
        weights: Counter[Origin] = Counter()
        lines: Counter[tuple[str, str, str]] = Counter()  # a line of a layer may have made several operations
        for origin, cost, size in self.parts(item, computation):
            weight = cost.flops + cost.transcendentals + cost.integer_ops + size
            weights[origin] += weight
            lines[origin.layer, origin.source, origin.phase] += weight
        return sorted(weights, key=lambda x: (PHASES.index(x.phase), -lines[x.layer, x.source, x.phase], -weights[x]))

    def neighbours(self, path: Path) -> list[Origin]:
        """Return the origin of the nearest instruction that reads a kernel's result, else of the nearest that it reads.

        Where a fusion reads it, the origin is that of the part that does. In a loop or a call without any, the loop's.
        """
        for place in range(len(path) - 1, -1, -1):
            item, computation = path[place]
            if place < len(path) - 1 and (found := self.ranked(item, computation)):
                return found[:1]
            if computation.name not in self._nearest:
                self._nearest[computation.name] = self._spread(computation)
            if item.name in self._nearest[computation.name]:
                return [self._nearest[computation.name][item.name]]
        return []

    def _find_parts(self, item: Instruction, computation: Computation) -> list[Part]:
        parts = []
        for inner, where in fused(item, computation, self._module):
            if inner.opcode in _SILENT and inner is not item:
                continue
            found = self._origins.of(inner, where.name)
            if not found:
                continue
            cost, size = work(inner, where, self._module), inner.shape.elements + (inner.name == where.root)
            last = min(found, key=lambda origin: PHASES.index(origin.phase))  # does the work, where several were merged
            parts += [(origin, cost if origin is last else Cost(), size) for origin in found]
        if not parts and item.opcode == "fusion":
            parts = [(origin, Cost(), item.shape.elements) for origin in self._origins.of(item, computation.name)]
        return parts

    def _spread(self, computation: Computation) -> dict[str, Origin]:
        """The nearest origin of every instruction that has none of its own: its readers' first, then its operands'.

        From all that have one at once, a step further at a time, so that each instruction is visited once.
        """
        own = {item.name: self.ranked(item, computation) for item in computation.instructions.values()}
        nearest: dict[str, Origin] = {}
        for readers in (True, False):
            found: dict[str, Origin] = {}
            waiting = deque(name for name, origins in own.items() if origins)
            while waiting:
                at = waiting.popleft()
                item = computation.instructions[at]
                for name in dict.fromkeys(item.operands if readers else computation.users[at]):
                    if own[name] or name in found:
                        continue
                    first = own[at][:1]
                    if readers and first:
                        first = self._reading_part(name, item) or first
                    found[name] = first[0] if first else found[at]
                    waiting.append(name)
            nearest = found | nearest
        return nearest

    def _reading_part(self, name: str, reader: Instruction) -> list[Origin]:
        """The origin of the part of a fusion that reads an operand."""
        if reader.opcode != "fusion":
            return []
        inside = self._module.computations[reader.calls[0]]
        users = inside.users[inside.parameters[reader.operands.index(name)].name]
        return [x for user in users for x in self._origins.of(inside.instructions[user], inside.name)][:1]
