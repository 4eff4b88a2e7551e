"""When each result of a scheduled module lives: from where it is made to where it is read last.

The schedule is laid out flat: what a call or a loop runs stands in its place, once. A result lies where XLA puts it:

    names for parts, ends of asynchronous operations, loops    in their operands' buffers
    updates of a part (dynamic-update-slice, scatter)          in the buffer that they change
    elementwise fusions                                        over an operand of their size that is read last there
    a loop's next state                                        over the last one, if that is not read any more by then
    results that take an argument's place                      in its buffer: variables that a step updates
"""

import dataclasses
import re
from typing import Any

from tfcore.inspect.hlo.module import Computation, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import FREE, begun, is_end
from tfcore.inspect.hlo.shapes import Shape
from tfcore.inspect.hlo.traffic import updates_in_place

# The buffers of a value, by number: those of an array, or for a tuple a list with the value of each part.
_Value = tuple[int, ...] | list[Any]


@dataclasses.dataclass
class Life:
    """A buffer by the name of the instruction that fills it; `begin` ≤ its places in the schedule < `end`."""

    name: str
    bytes: int
    begin: int
    end: int
    space: int = 0


def lives(module: HloModule) -> tuple[list[Life], list[str]]:
    """Return the buffers of a module beside its arguments, and the names of the instructions in the schedule."""
    walk = _Walk(module)
    entry = module.entry
    arguments = [walk.argument(item.shape) for item in entry.parameters.values()]
    root = walk.run(entry, arguments)
    for number in _flat(root):
        walk.lives[number].end = len(walk.schedule) + 1
    for path in re.findall(r"\{([\d, ]*)\}: \(\d+, \{[\d, ]*\}", module.header):
        value = root
        for part in re.findall(r"\d+", path):
            value = value[int(part)] if isinstance(value, list) and int(part) < len(value) else ()
        walk.given.update(_flat(value))
    walk.write_over()
    found = [life for number, life in enumerate(walk.lives) if number not in walk.given and life.bytes]
    return found, walk.schedule


class _Walk:
    """One pass over the schedule."""

    def __init__(self, module: HloModule):
        self.module = module
        self.schedule: list[str] = []
        self.lives: list[Life] = []
        self.given: set[int] = set()  # buffers that take no room of their own: arguments, or in another's place
        self._over: dict[int, list[int]] = {}  # results of elementwise operations: their operands

    def argument(self, shape: Shape) -> _Value:
        value = self._new("", shape)
        self.given.update(_flat(value))
        return value

    def write_over(self) -> None:
        """Let elementwise results take the place of an operand that dies there."""
        taken: set[int] = set()
        for result, operands in self._over.items():
            own = self.lives[result]
            for number in operands:
                other = self.lives[number]
                fits = other.bytes == own.bytes and other.end == own.begin + 1 and other.space == own.space
                if fits and number not in taken and number not in self.given and result not in self.given:
                    other.end = own.begin
                    taken.add(number)
                    break

    def run(self, computation: Computation, arguments: list[_Value]) -> _Value:
        """Lay a computation into the schedule; return its result."""
        values: dict[str, _Value] = {}
        for item in computation.instructions.values():
            operands = [values[name] for name in item.operands]
            values[item.name] = self._value(item, computation, operands, arguments)
        return values[computation.root]

    def _value(
        self, item: Instruction, computation: Computation, operands: list[_Value], arguments: list[_Value]
    ) -> _Value:
        opcode = item.opcode
        if opcode == "parameter":
            return arguments[int(item.payload)]
        if opcode == "tuple":
            return operands
        if opcode == "get-tuple-element":
            return _part(operands[0], int(item.attributes["index"]))
        if is_end(opcode):
            return self._finished(item, operands)
        if opcode in FREE:
            return operands[0] if operands else ()
        here = len(self.schedule)
        self.schedule.append(item.name)
        self._read(operands, here)
        if opcode == "while":
            return self._loop(item, operands[0])
        if opcode in ("call", "async-start", "call-start"):
            result = self.run(self.module.computations[item.calls[0]], operands)
            return result if opcode == "call" else [operands, result]
        if opcode == "conditional":
            result = self._new(item.name, item.shape)
            for name, operand in zip(item.calls, operands[1:], strict=False):
                inner = self.run(self.module.computations[name], [operand])
                self.given.update(number for number in _flat(inner) if self.lives[number].begin > here)
                self._read([inner, result], len(self.schedule))
            return result
        return self._made(item, computation, operands)

    def _made(self, item: Instruction, computation: Computation, operands: list[_Value]) -> _Value:
        inside, roots = None, [item]
        if item.opcode == "fusion":
            inside = self.module.computations[item.calls[0]]
            root = inside.instructions[inside.root]
            roots = [inside.instructions[name] for name in root.operands] if root.opcode == "tuple" else [root]
        shape = begun(item).shape
        value = self._new(item.name, shape)
        parts = value if isinstance(value, list) else [value]
        for place, root in enumerate(roots[: len(parts)]):
            number = _changed(root, inside or computation, item, fused=inside is not None)
            if number is not None and not isinstance(operands[number], list):
                self.given.update(_flat(parts[place]))
                parts[place] = operands[number]
        elementwise = item.attributes.get("kind") == "kLoop"
        if elementwise:
            own = [number for part in parts for number in _flat(part)]
            given = _flat(operands)
            self._over |= {number: given for number in own if self.lives[number].name == item.name}
        made = parts if isinstance(value, list) else parts[0]
        return [operands, made] if shape is not item.shape else made

    def _finished(self, item: Instruction, operands: list[_Value]) -> _Value:
        """What a -start has made: the second of [operands, result], or its result itself."""
        begun_value = operands[0] if operands else ()
        if item.opcode.endswith("-done") and isinstance(begun_value, list) and len(begun_value) == 2:
            return begun_value[1] if isinstance(begun_value[0], list) else begun_value
        return begun_value

    def _loop(self, item: Instruction, state: _Value) -> _Value:
        condition = self.module.computations[item.attributes["condition"].lstrip("%")]
        body = self.module.computations[item.attributes["body"].lstrip("%")]
        begin = len(self.schedule)
        self.run(condition, [state])
        after = self.run(body, [state])
        end = len(self.schedule)
        for old, new in _pairs(state, after):
            own, other = self.lives[new], self.lives[old]
            if new != old and own.begin >= begin and other.end <= own.begin + (old in self._over.get(new, ())):
                self.given.add(new)  # in the state's place
        self._read([state, after], end - 1)
        return state

    def _new(self, name: str, shape: Shape) -> _Value:
        if shape.dtype == "tuple":
            return [self._new(name, part) for part in shape.parts]
        place = max(len(self.schedule) - 1, 0)
        self.lives.append(Life(name, shape.bytes, place, place + 1, shape.space))
        return (len(self.lives) - 1,)

    def _read(self, values: list[_Value], place: int) -> None:
        for number in _flat(values):
            self.lives[number].end = max(self.lives[number].end, place + 1)


def _changed(root: Instruction, computation: Computation, outer: Instruction, *, fused: bool) -> int | None:
    """Which operand of an instruction a result of it changes in place; None for a result of its own."""
    while fused and root.opcode == "bitcast":
        root = computation.instructions[root.operands[0]]
    if not updates_in_place(root, computation, fused=fused):
        return None
    if not fused:
        return 0
    base = computation.instructions[root.operands[0]]
    while base.opcode == "bitcast":
        base = computation.instructions[base.operands[0]]
    number = int(base.payload)
    return number if number < len(outer.operands) else None


def _part(value: _Value, number: int) -> _Value:
    return value[number] if isinstance(value, list) and number < len(value) else value


def _flat(value) -> list[int]:
    if isinstance(value, tuple):
        return list(value)
    return [number for part in value for number in _flat(part)]


def _pairs(state: _Value, after: _Value) -> list[tuple[int, int]]:
    if isinstance(state, list) and isinstance(after, list):
        return [pair for old, new in zip(state, after, strict=False) for pair in _pairs(old, new)]
    if isinstance(state, tuple) and isinstance(after, tuple):
        return list(zip(state, after, strict=False))
    return []
