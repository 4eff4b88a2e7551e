"""Bytes that a kernel reads and writes: operands and results, each once; of what is sliced or updated in place, that
part; nothing of what lives inside a fusion.
"""

from tfcore.inspect.hlo import calls
from tfcore.inspect.hlo.module import Computation, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import SLICES
from tfcore.inspect.hlo.shapes import Shape


def read_and_written(item: Instruction, computation: Computation, module: HloModule) -> tuple[int, int]:
    """Return the bytes that one run of an instruction reads, and those that it writes."""
    if item.opcode == "fusion":
        inside = module.computations[item.calls[0]]
        read = sum(_read_of_parameter(parameter, inside, module) for parameter in inside.parameters.values())
        return read, _written(inside.instructions[inside.root], inside, module, fused=True)
    read = _read(item, [computation.instructions[name].shape for name in item.operands])
    if item.opcode == "custom-call":
        written = sum(shape.bytes for shape in calls.results(item))
        known = calls.estimate(item)
        if known and known["bytes_accessed"]:
            written = min(written, known["bytes_accessed"])
            read = known["bytes_accessed"] - written
        return read, written
    return read, _written(item, computation, module, fused=False)


def _read(item: Instruction, shapes: list[Shape]) -> int:
    """Bytes that an instruction on its own reads of its operands."""
    if item.opcode in SLICES:
        return min(item.shape.bytes, shapes[0].bytes) + sum(shape.bytes for shape in shapes[1:])
    if item.opcode == "dynamic-update-slice":
        return sum(shape.bytes for shape in shapes[1:])
    if item.opcode == "scatter":  # the places that it adds to, indices, updates
        return shapes[-1].bytes + sum(shape.bytes for shape in shapes[1:])
    return sum(shape.bytes for shape in shapes)


def _read_of_parameter(parameter: Instruction, inside: Computation, module: HloModule) -> int:
    """Bytes of a fusion's operand that are read: all of it, unless nothing but slices of it is used."""
    total = 0
    for name in inside.users[parameter.name]:
        user = inside.instructions[name]
        if user.opcode == "bitcast":
            part = _read_of_parameter(user, inside, module)
        elif user.opcode == "fusion":
            nested = module.computations[user.calls[0]]
            numbers = (number for number, operand in enumerate(user.operands) if operand == parameter.name)
            part = sum(_read_of_parameter(nested.parameters[number], nested, module) for number in numbers)
        elif user.opcode in SLICES and parameter.name not in user.operands[1:]:
            part = user.shape.bytes
        elif user.opcode == "dynamic-update-slice" and parameter.name == user.operands[0]:
            part = 0  # in place: what it leaves alone is not touched
        elif user.opcode == "scatter" and parameter.name == user.operands[0]:
            part = inside.instructions[user.operands[-1]].shape.bytes
        else:
            return parameter.shape.bytes
        total += part
    return min(total, parameter.shape.bytes)


def _written(item: Instruction, computation: Computation, module: HloModule, *, fused: bool) -> int:
    """Bytes that a result takes: of an update in place, of a buffer that comes from outside, those that it changes."""
    operands = [computation.instructions[name] for name in item.operands]
    if item.opcode == "tuple":
        return sum(_written(operand, computation, module, fused=fused) for operand in operands)
    if item.opcode == "bitcast":
        return _written(operands[0], computation, module, fused=fused)
    if item.opcode == "fusion" and fused:
        inside = module.computations[item.calls[0]]
        return _written(inside.instructions[inside.root], inside, module, fused=True)
    if updates_in_place(item, computation, fused=fused):
        return operands[1 if item.opcode == "dynamic-update-slice" else -1].shape.bytes
    return item.shape.bytes


def updates_in_place(item: Instruction, computation: Computation, *, fused: bool) -> bool:
    """Return whether an instruction changes a part of a buffer that comes from outside of its fusion."""
    if item.opcode not in ("dynamic-update-slice", "scatter"):
        return False
    base = computation.instructions[item.operands[0]]
    while base.opcode == "bitcast":
        base = computation.instructions[base.operands[0]]
    return not fused or base.opcode == "parameter"
