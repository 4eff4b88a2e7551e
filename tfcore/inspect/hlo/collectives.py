"""What the devices send each other: how many take part in an operation, and how many bytes each of them sends."""

import math
import re

from tfcore.inspect.hlo.module import HloModule, Instruction
from tfcore.inspect.hlo.shapes import Shape


def group_size(item: Instruction, module: HloModule) -> int:
    """Return how many devices take part: replica_groups={{0,1}}, =[groups,size]<=[n], or =mesh['x'=4] {'x'}."""
    text = item.attributes.get("replica_groups", "")
    if text.startswith("mesh"):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", text)}
        axes = text.rpartition("{")[2]
        parts = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", axes)  # 'x', or a part of it: 'x':(2)4
        return math.prod(int(part) if part else sizes.get(name, 1) for name, part in parts)
    if found := re.match(r"\[([\d,]+)\]<=", text):
        return int(found[1].split(",")[-1])
    if found := re.match(r"\{\{([\d,]*)\}", text):
        return max(len(found[1].split(",")), 1)
    return math.prod(module.devices)


def sent(item: Instruction, operands: list[Shape], module: HloModule) -> int:
    """Return the bytes that a device sends in a ring of g: 2 (g − 1) / g of what is reduced, (g − 1) / g of the larger
    side of a gather, scatter or exchange, all of a permutation.
    """
    given, result = sum(shape.bytes for shape in operands), item.shape.bytes
    group = group_size(item, module)
    if item.opcode == "collective-permute":
        return given
    if item.opcode == "all-reduce":
        return 2 * (group - 1) * given // group
    return (group - 1) * max(given, result) // group
