"""Which kernel reads which kernel's result, names for parts, calls and loops seen through."""

from tfcore.inspect.hlo.module import Computation, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import RUNS_OTHERS, is_free
from tfcore.inspect.hlo.runs import unit_names

_Key = tuple[str, str]  # computation and instruction


def dataflow(module: HloModule) -> list[tuple[str, str]]:
    """Return the pairs (kernel, a kernel that reads its result) of an optimized module, each once.

    In a loop's body what an iteration reads of the one before counts, too. Arguments and constants are no kernels.
    """
    sources = _Sources(module)
    readers = [
        ((computation.name, instruction.name), instruction.operands)
        for computation in sources.running
        for instruction in computation.instructions.values()
        if _is_unit(instruction)
    ]
    names = unit_names(key for key, _ in readers)
    return [
        (names[source], names[key])
        for key, operands in readers
        for source in dict.fromkeys(found for operand in operands for found in sources.of((key[0], operand)))
    ]


def _is_unit(item: Instruction) -> bool:
    return not is_free(item.opcode) and item.opcode not in RUNS_OTHERS


class _Sources:
    """The kernels in whose results a value lies, by computation and name of the instruction that stands for it."""

    def __init__(self, module: HloModule):
        self.running: list[Computation] = []  # the entry and what it calls, loops' bodies: no fusion's inside
        self._module = module
        # Of a computation: who calls it, from where, and its place among the calls.
        self._callers: dict[str, list[tuple[Instruction, str, int]]] = {}
        border = [module.entry]
        for computation in border:
            self.running.append(computation)
            for instruction in computation.instructions.values():
                if instruction.opcode in RUNS_OTHERS:
                    for place, name in enumerate(instruction.calls):
                        if name not in self._callers:
                            border.append(module.computations[name])
                        self._callers.setdefault(name, []).append((instruction, computation.name, place))

    def of(self, key: _Key) -> list[_Key]:
        """Return the kernels from which a value comes; () for arguments and constants."""
        found, seen = [], set()
        border: list[tuple[_Key, int | None]] = [(key, None)]  # (instruction, which part of its tuple, None: all)
        for at in border:
            if at in seen:
                continue
            seen.add(at)
            (home, name), part = at
            instruction = self._module.computations[home].instructions[name]
            if _is_unit(instruction):
                found.append((home, name))
            else:
                border += self._behind(instruction, home, part)
        return found

    def _behind(self, instruction: Instruction, home: str, part: int | None) -> list[tuple[_Key, int | None]]:
        opcode, operands = instruction.opcode, instruction.operands
        if opcode == "get-tuple-element":
            return [((home, operands[0]), int(instruction.attributes["index"]))]
        if opcode == "tuple":
            return [((home, name), None) for name in (operands if part is None else operands[part : part + 1])]
        if opcode in RUNS_OTHERS:
            if opcode == "while":  # no iteration may run, so that what enters may come out
                return [(self._body(instruction), part), ((home, operands[0]), part)]
            return [((name, self._module.computations[name].root), part) for name in instruction.calls]
        if opcode == "parameter":
            return [
                pair
                for caller, outer, place in self._callers.get(home, ())
                for pair in self._given(caller, outer, place, int(instruction.payload), part)
            ]
        return [((home, name), part) for name in operands]

    def _given(
        self, caller: Instruction, home: str, place: int, number: int, part: int | None
    ) -> list[tuple[_Key, int | None]]:
        """What a caller hands to its computation's parameter."""
        if caller.opcode == "while":
            return [((home, caller.operands[0]), part), (self._body(caller), part)]
        if caller.opcode == "conditional":  # an operand for each branch, after the one that chooses
            return [((home, caller.operands[1 + place]), part)]
        return [((home, caller.operands[number]), part)]

    def _body(self, loop: Instruction) -> _Key:
        name = loop.attributes["body"].lstrip("%")
        return name, self._module.computations[name].root
