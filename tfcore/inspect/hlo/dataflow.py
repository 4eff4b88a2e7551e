"""Which kernel reads which kernel's result, names for parts, calls and loops seen through."""

from tfcore.inspect.hlo.cost import FREE
from tfcore.inspect.hlo.parser import Computation, Instruction, Module

_RUNS_OTHERS = ("call", "while", "conditional", "async-start")


def dataflow(module: Module) -> list[tuple[str, str]]:
    """Return the pairs (kernel, a kernel that reads its result) of an optimized module, each once.

    In a loop's body what an iteration reads of the one before counts, too. Arguments and constants are no kernels.
    """
    sources = _Sources(module)
    return [
        (source, instruction.name)
        for computation in sources.running
        for instruction in computation.instructions.values()
        if instruction.opcode not in FREE and instruction.opcode not in _RUNS_OTHERS
        for source in dict.fromkeys(name for operand in instruction.operands for name in sources.of(operand))
    ]


class _Sources:
    """The kernels in whose results a value lies, by the name of the instruction that stands for it."""

    def __init__(self, module: Module):
        self.running: list[Computation] = []  # the entry and what it calls, loops' bodies: no fusion's inside
        self._module = module
        self._home: dict[str, Computation] = {}  # of every instruction
        self._callers: dict[str, list[tuple[Instruction, int]]] = {}  # of a computation, and its place among the calls
        border = [module.entry]
        for computation in border:
            self.running.append(computation)
            for instruction in computation.instructions.values():
                self._home[instruction.name] = computation
                if instruction.opcode in _RUNS_OTHERS:
                    for place, name in enumerate(instruction.calls):
                        if name not in self._callers:
                            border.append(module.computations[name])
                        self._callers.setdefault(name, []).append((instruction, place))

    def of(self, name: str) -> list[str]:
        """Return the kernels from which a value comes; () for arguments and constants."""
        found, seen = [], set()
        border: list[tuple[str, int | None]] = [(name, None)]  # (instruction, which part of its tuple, None: all)
        for at in border:
            if at in seen:
                continue
            seen.add(at)
            instruction, part = self._home[at[0]].instructions[at[0]], at[1]
            if instruction.opcode not in FREE and instruction.opcode not in _RUNS_OTHERS:
                found.append(instruction.name)
            else:
                border += self._behind(instruction, part)
        return found

    def _behind(self, instruction: Instruction, part: int | None) -> list[tuple[str, int | None]]:
        opcode, operands = instruction.opcode, instruction.operands
        if opcode == "get-tuple-element":
            return [(operands[0], int(instruction.attributes["index"]))]
        if opcode == "tuple":
            return [(name, None) for name in (operands if part is None else operands[part : part + 1])]
        if opcode in _RUNS_OTHERS:
            roots = [(self._module.computations[name].root, part) for name in instruction.calls]
            if opcode == "while":  # no iteration may run, so that what enters may come out
                return [(self._body(instruction), part), (operands[0], part)]
            return roots
        if opcode == "parameter":
            return [
                pair
                for caller, place in self._callers.get(self._home[instruction.name].name, ())
                for pair in self._given(caller, place, int(instruction.payload), part)
            ]
        return [(name, part) for name in operands]

    def _given(self, caller: Instruction, place: int, number: int, part: int | None) -> list[tuple[str, int | None]]:
        """What a caller hands to its computation's parameter."""
        if caller.opcode == "while":
            return [(caller.operands[0], part), (self._body(caller), part)]
        if caller.opcode == "conditional":  # an operand for each branch, after the one that chooses
            return [(caller.operands[1 + place], part)]
        return [(caller.operands[number], part)]

    def _body(self, loop: Instruction) -> str:
        return self._module.computations[loop.attributes["body"].lstrip("%")].root
