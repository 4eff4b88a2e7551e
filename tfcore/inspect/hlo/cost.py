"""What a compiled kernel computes and moves, counted from optimized HLO.

A kernel is an instruction that runs as a unit: a fusion, a matrix product, a convolution, a copy, a library call.

    flops           floating-point operations: 2·M·N·K for a dot (a multiplication and an addition each), 2 for each
                    multiply-add of a convolution, n − 1 for a reduction of n elements, 1 an element for add, subtract,
                    multiply, divide, remainder, negate, abs, sign, floor, ceil, round, maximum and minimum
    transcendentals 1 an element for exp, log, tanh, erf, power, square roots and trigonometric functions, counted apart
    integer_ops     1 an element for the same arithmetic, bit operations and shifts on integers (random bits, indices)
    bytes           operands read and results written, each once; what lives inside a fusion is free

Comparisons, selections, conversions, broadcasts and everything that only moves data cost bytes alone. A convolution's
multiply-adds are those whose input element exists: taps on padding, or between the elements of a dilated input, are not
counted (XLA's own analysis does the same: xla/service/hlo_cost_analysis.cc). Of operands that are only sliced or
gathered from, the part that is taken counts as read; an update in place counts as what it touches. A fusion that
computes a value twice is charged twice, as it runs.
"""

import dataclasses
import json
import math

from tfcore.inspect.hlo.parser import Computation, Instruction, Module
from tfcore.inspect.hlo.shapes import Shape, Window

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
    "add-dependency", "opt-barrier",
))
# fmt: on
SLICES = frozenset(("slice", "dynamic-slice", "gather"))
# Work that is not elementwise and for which there is no formula here.
_UNKNOWN = frozenset(["fft", "cholesky", "triangular-solve", "rng", "rng-bit-generator", "custom-call"])


@dataclasses.dataclass(frozen=True)
class Cost:
    """Counts of one kernel, or sums over several; see the module's text. `counted` is False if some work is missing."""

    flops: int = 0
    transcendentals: int = 0
    integer_ops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    counted: bool = True

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written

    def __add__(self, other: "Cost") -> "Cost":
        sums = (a + b for a, b in zip(dataclasses.astuple(self)[:-1], dataclasses.astuple(other)[:-1], strict=True))
        return Cost(*sums, self.counted and other.counted)

    def times(self, count: int) -> "Cost":
        """Return the cost of running it `count` times."""
        return Cost(*(count * value for value in dataclasses.astuple(self)[:-1]), self.counted)


def kernel_cost(instruction: Instruction, computation: Computation, module: Module) -> Cost:
    """Return what one run of a kernel of `computation` computes and moves."""
    if instruction.opcode in FREE or instruction.opcode in ("while", "conditional", "call"):
        return Cost()  # what they run is counted as kernels of its own
    cost = work(instruction, computation, module)
    operands = [computation.instructions[name] for name in instruction.operands]
    if instruction.opcode == "fusion":
        inside = module.computations[instruction.calls[0]]
        read = sum(_read_of_parameter(parameter, inside) for parameter in inside.parameters.values())
        written = _written(inside.instructions[inside.root], inside, fused=True)
    else:
        read = _read(instruction, [operand.shape for operand in operands])
        written = _written(instruction, computation, fused=False)
    return dataclasses.replace(cost, bytes_read=read, bytes_written=written)


def work(instruction: Instruction, computation: Computation, module: Module) -> Cost:
    """Return the operations of an instruction, and of all that is fused into it, without bytes."""
    opcode, elements = instruction.opcode, instruction.shape.elements
    shapes = [computation.instructions[name].shape for name in instruction.operands]
    if opcode == "fusion":
        inside = module.computations[instruction.calls[0]]
        return sum((work(item, inside, module) for item in inside.instructions.values()), Cost())
    if opcode in TRANSCENDENTAL:
        return Cost(transcendentals=elements)
    if opcode in ARITHMETIC or opcode in BITWISE:
        if instruction.shape.dtype[0] in "fbc":  # f32, bf16, c64
            return Cost(flops=elements)
        return Cost(integer_ops=elements)
    if opcode == "dot":
        summed = math.prod(shapes[0].dims[axis] for axis in instruction.numbers("lhs_contracting_dims"))
        return Cost(flops=2 * elements * summed)
    if opcode == "convolution":
        return Cost(
            flops=_convolution(instruction.attributes["dim_labels"], instruction.window, *shapes, instruction.shape)
        )
    if opcode == "custom-call":
        return _custom_call(instruction, shapes)
    if opcode in ("reduce", "map", "reduce-window", "scatter", "select-and-scatter"):
        inside = module.computations[instruction.calls[-1]]  # of select-and-scatter the second, which scatters
        once = sum((work(item, inside, module) for item in inside.instructions.values()), Cost())
        return once.times(_applications(instruction, shapes))
    return Cost(counted=opcode not in _UNKNOWN)


def _applications(instruction: Instruction, shapes: list[Shape]) -> int:
    """How often a reduction, a map or a scatter applies its computation."""
    first = instruction.shape.parts[0] if instruction.shape.parts else instruction.shape
    if instruction.opcode == "map":
        return first.elements
    if instruction.opcode == "reduce":
        return max(shapes[0].elements - first.elements, 0)
    if instruction.opcode == "reduce-window":
        sizes = zip(shapes[0].dims, first.dims, range(len(first.dims)), strict=True)
        pairs = math.prod(_taps(size, out, instruction.window, axis) for size, out, axis in sizes)
        return max(pairs - first.elements, 0)
    if instruction.opcode == "scatter":  # operands, indices, updates: as many updates as operands
        return shapes[-1].elements
    return shapes[1].elements  # select-and-scatter: each element of the source once


def _convolution(labels: str, window: Window, image: Shape, kernel: Shape, out: Shape) -> int:
    """2 · (output batch · output features · the kernel's input features · taps that meet an element, per axis).

    `labels` such as b01f_01io->b01f name the dimensions of image, kernel and output. In a grouped convolution the
    kernel's input features are those of one group.
    """
    ins, rest = labels.split("_")
    weights, outs = rest.split("->")
    taps = (
        _taps(image.dims[ins.index(str(axis))], out.dims[outs.index(str(axis))], window, axis)
        for axis in range(len(window.size))
    )
    dense = out.dims[outs.index("b")] * out.dims[outs.index("f")] * kernel.dims[weights.index("i")]
    return 2 * dense * math.prod(taps)


def _taps(size: int, out: int, window: Window, axis: int) -> int:
    """Pairs (output position, tap) along one axis that meet an element of the input."""
    low, dilate = window.pad[axis][0], window.lhs_dilate[axis]
    last = (size - 1) * dilate
    count = 0
    for tap in range(window.size[axis]):
        begin = tap * window.rhs_dilate[axis] - low
        places = range(begin, begin + out * window.stride[axis], window.stride[axis])
        count += sum(1 for place in places if 0 <= place <= last and place % dilate == 0)
    return count


def _custom_call(instruction: Instruction, shapes: list[Shape]) -> Cost:
    """Library calls that are matrix products or convolutions by their name (oneDNN, cuBLAS, cuDNN)."""
    target = instruction.attributes.get("custom_call_target", "").strip('"').lower()
    out = instruction.shape.parts[0] if instruction.shape.parts else instruction.shape  # a workspace may follow
    if "matmul" in target or "gemm" in target:
        # |A| |B| |C| = b³ M² N² K² for b products (M, K) (K, N), however they are laid out.
        batch = math.prod(out.dims[:-2])
        return Cost(flops=2 * math.isqrt(batch * shapes[0].elements * shapes[1].elements * out.elements) // batch)
    if "conv" in target and "dim_labels" in instruction.attributes:
        # Backward convolutions are described by the forward one's window: result and operand change places.
        image, kernel, result = shapes[0], shapes[1], out
        if "backwardinput" in target:
            image, result = result, image
        elif "backwardfilter" in target:
            kernel, result = result, kernel
        return Cost(flops=_convolution(instruction.attributes["dim_labels"], instruction.window, image, kernel, result))
    return Cost(counted=False)


def trip_count(loop: Instruction) -> int | None:
    """Return how often a while loop runs, where XLA knows it."""
    config = instruction_config(loop)
    count = config.get("known_trip_count", {}).get("n")
    return None if count is None else int(count)


def instruction_config(instruction: Instruction) -> dict:
    """Return the JSON of backend_config, {} where there is none."""
    text = instruction.attributes.get("backend_config", "")
    return json.loads(text) if text.startswith("{") else {}


def _read(instruction: Instruction, shapes: list[Shape]) -> int:
    """Bytes that an instruction on its own reads of its operands."""
    if instruction.opcode in ("slice", "dynamic-slice", "gather"):
        return min(instruction.shape.bytes, shapes[0].bytes) + sum(shape.bytes for shape in shapes[1:])
    if instruction.opcode == "dynamic-update-slice":
        return sum(shape.bytes for shape in shapes[1:])
    if instruction.opcode == "scatter":  # the places that it adds to, indices, updates
        return shapes[-1].bytes + sum(shape.bytes for shape in shapes[1:])
    return sum(shape.bytes for shape in shapes)


def _read_of_parameter(parameter: Instruction, inside: Computation) -> int:
    """Bytes of a fusion's operand that are read: all of it, unless nothing but slices of it is used."""
    total = 0
    for name in inside.users[parameter.name]:
        user = inside.instructions[name]
        if user.opcode == "bitcast":
            part = _read_of_parameter(user, inside)
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


def _written(instruction: Instruction, computation: Computation, fused: bool) -> int:
    """Bytes that a result takes: of an update in place, of a buffer that comes from outside, those that it changes."""
    operands = [computation.instructions[name] for name in instruction.operands]
    if instruction.opcode == "tuple":
        return sum(_written(operand, computation, fused) for operand in operands)
    if instruction.opcode == "bitcast":
        return _written(operands[0], computation, fused)
    if instruction.opcode in ("dynamic-update-slice", "scatter"):
        base = operands[0]
        while base.opcode == "bitcast":
            base = computation.instructions[base.operands[0]]
        if not fused or base.opcode == "parameter":
            return operands[1 if instruction.opcode == "dynamic-update-slice" else -1].shape.bytes
    return instruction.shape.bytes
