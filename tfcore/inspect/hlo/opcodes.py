"""Which opcodes compute what, which only move data, and what the halves of an asynchronous operation stand for."""

import dataclasses

from tfcore.inspect.hlo.module import Instruction

# fmt: off
ARITHMETIC = frozenset((
    "add", "subtract", "multiply", "divide", "remainder", "negate", "abs", "sign", "floor", "ceil",
    "round-nearest-afz", "round-nearest-even", "maximum", "minimum",
))
BITWISE = frozenset((
    "and", "or", "xor", "not", "shift-left", "shift-right-arithmetic", "shift-right-logical", "popcnt",
    "count-leading-zeros",
))
TRANSCENDENTAL = frozenset((
    "exponential", "exponential-minus-one", "log", "log-plus-one", "tanh", "logistic", "rsqrt", "sqrt", "cbrt", "sine",
    "cosine", "tan", "atan2", "power", "erf", "acos", "acosh", "asin", "asinh", "atanh", "cosh", "sinh",
))
# No work at run time: names for values, and values that the compiler knows.
FREE = frozenset((
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id",
    "add-dependency", "opt-barrier", "domain",
))
# Known to move, choose, compare or convert and to compute nothing that is counted.
MOVES = frozenset((
    "compare", "select", "clamp", "is-finite", "convert", "bitcast-convert", "reduce-precision", "stochastic-convert",
    "real", "imag", "complex", "broadcast", "dynamic-broadcast-in-dim", "reshape", "dynamic-reshape", "transpose",
    "copy", "concatenate", "pad", "dynamic-pad", "reverse", "slice", "dynamic-slice", "dynamic-update-slice", "gather",
    "iota", "get-dimension-size", "set-dimension-size", "infeed", "outfeed", "send", "recv", "all-gather",
    "all-to-all", "ragged-all-to-all", "collective-permute", "collective-broadcast", "rng-get-and-update-state",
))
COLLECTIVES = frozenset((
    "all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "reduce-scatter", "collective-permute",
    "collective-broadcast",
))
# fmt: on
SLICES = frozenset(("slice", "dynamic-slice", "gather"))
RUNS_OTHERS = frozenset(("while", "conditional", "call", "call-start", "async-start"))


def is_free(opcode: str) -> bool:
    """Return whether an operation takes no time: a name for a value, or the end of what was begun elsewhere."""
    return opcode in FREE or is_end(opcode)


def is_end(opcode: str) -> bool:
    """Return whether this is the other end of an asynchronous operation, whose -start does the work."""
    return opcode.endswith("-done") or opcode in ("async-update", "call-update", "custom-call-update")


def begun(item: Instruction) -> Instruction:
    """Return what a -start begins, with the shape of its result alone; any other instruction as it is.

    copy-start gives (result, operand, context), collective starts (operand, result ...), and an operation that was
    wrapped ((operands), result, context). all-reduce-start gives its result.
    """
    if not item.opcode.endswith("-start") or item.opcode == "async-start":
        return item
    opcode, parts = item.opcode.removesuffix("-start"), item.shape.parts
    shape = item.shape
    if opcode == "copy":
        shape = parts[0] if parts else shape
    elif opcode in ("all-gather", "collective-permute", "send", "recv") or (parts and parts[0].dtype == "tuple"):
        shape = parts[1] if len(parts) > 1 else shape
    return dataclasses.replace(item, opcode=opcode, shape=shape)
