"""What a compiled kernel computes and moves, counted from optimized HLO.

A kernel is an instruction that runs as a unit: a fusion, a matrix product, a convolution, a copy, a library call.

    flops           floating-point operations: 2·M·N·K for a dot (a multiplication and an addition each), 2 for each
                    multiply-add of a convolution, n − 1 for a reduction of n elements, 5·n·log2 n for a Fourier
                    transform of n points, 1 an element for add, subtract, multiply, divide, remainder, negate, abs,
                    sign, floor, ceil, round, maximum and minimum
    transcendentals 1 an element for exp, log, tanh, erf, power, square roots and trigonometric functions, counted apart
    integer_ops     1 an element for the same arithmetic, bit operations and shifts on integers (random bits, indices)
    comparisons     n·log2 n of a sort of n elements
    bytes           operands read and results written, each once; what lives inside a fusion is free
    bytes_sent      what a device sends to others (`collectives`)

Comparisons of elements, selections, conversions, broadcasts and everything that only moves data cost bytes alone. A
convolution's multiply-adds are those whose input element exists: taps on padding, or between the elements of a dilated
input, are not counted (XLA's own analysis does the same: xla/service/hlo_cost_analysis.cc). Of operands that are only
sliced or gathered from, the part that is taken counts as read; an update in place counts as what it touches. A fusion
that computes a value twice is charged twice, as it runs. What there is no formula for is not counted, and said so.
"""

import dataclasses
import math

import numpy as np

from tfcore.inspect.hlo import calls, traffic
from tfcore.inspect.hlo.collectives import group_size, sent
from tfcore.inspect.hlo.module import Computation, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import (
    ARITHMETIC,
    BITWISE,
    COLLECTIVES,
    FREE,
    MOVES,
    RUNS_OTHERS,
    TRANSCENDENTAL,
    begun,
    is_free,
)
from tfcore.inspect.hlo.shapes import HloWindow, Shape

_APPLYING = frozenset(
    ("reduce", "map", "reduce-window", "scatter", "select-and-scatter", "all-reduce", "reduce-scatter")
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Counts of one kernel, or sums over several; see the module's text. `counted` is False if some work is missing."""

    flops: int = 0
    transcendentals: int = 0
    integer_ops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    comparisons: int = 0
    bytes_sent: int = 0
    counted: bool = True

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops,
            self.transcendentals + other.transcendentals,
            self.integer_ops + other.integer_ops,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
            self.comparisons + other.comparisons,
            self.bytes_sent + other.bytes_sent,
            self.counted and other.counted,
        )

    def times(self, count: int) -> "Cost":
        """Return the cost of running it `count` times."""
        if count == 1:
            return self
        return Cost(**{name: value if name == "counted" else count * value for name, value in vars(self).items()})


def kernel_cost(instruction: Instruction, computation: Computation, module: HloModule) -> Cost:
    """Return what one run of a kernel of `computation` computes and moves."""
    if is_free(instruction.opcode) or instruction.opcode in RUNS_OTHERS:
        return Cost()  # what they run is counted as kernels of its own
    item = begun(instruction)
    read, written = traffic.read_and_written(item, computation, module)
    cost = work(item, computation, module)
    moved = 0
    if item.opcode in COLLECTIVES:
        moved = sent(item, [computation.instructions[name].shape for name in item.operands], module)
    return dataclasses.replace(cost, bytes_read=read, bytes_written=written, bytes_sent=moved)


def work(instruction: Instruction, computation: Computation, module: HloModule) -> Cost:
    """Return the operations of an instruction, and of all that is fused into it, without bytes."""
    item = begun(instruction)
    opcode, elements = item.opcode, item.shape.elements
    if opcode in TRANSCENDENTAL:
        return Cost(transcendentals=elements)
    if opcode in ARITHMETIC or opcode in BITWISE:
        if item.shape.dtype[0] in "fbc":  # f32, bf16, c64
            return Cost(flops=elements)
        return Cost(integer_ops=elements)
    if opcode in MOVES or is_free(opcode):
        return Cost()
    if opcode == "fusion":
        return _all_work(item.calls[0], module)
    shapes = [computation.instructions[name].shape for name in item.operands]
    if opcode in ("dot", "scaled-dot", "ragged-dot"):
        return Cost(flops=_product(item, shapes))
    if opcode == "convolution":
        return Cost(flops=_convolution(item.attributes["dim_labels"], item.window, shapes[0], shapes[1], item.shape))
    if opcode == "custom-call":
        return _custom_call(item, shapes)
    if opcode == "fft":
        size = math.prod(item.numbers("fft_length"))
        points = max(shapes[0].elements, elements)  # the real side of a real transform
        return Cost(flops=round(5 * points * math.log2(size)) if size > 1 else 0)
    if opcode == "sort":
        axis = (item.numbers("dimensions") or (0,))[0]
        size = shapes[0].dims[axis] if shapes[0].dims else 1
        return Cost(comparisons=round(shapes[0].elements * math.log2(size)) if size > 1 else 0)
    if opcode in _APPLYING:
        once = _all_work(item.calls[-1], module)  # of select-and-scatter the second, which scatters
        return once.times(_applications(item, shapes, module))
    return Cost(counted=False)


def _all_work(name: str, module: HloModule) -> Cost:
    inside = module.computations[name]
    return sum((work(item, inside, module) for item in inside.instructions.values() if item.opcode not in FREE), Cost())


def _product(item: Instruction, shapes: list[Shape]) -> int:
    """2 · |out| · ∏ of the contracted sizes; of a ragged one as if every row had a group, which is the most."""
    axes = item.numbers("lhs_contracting_dims")
    summed = math.prod(shapes[0].dims[axis] for axis in axes)
    groups = 1
    if set(item.numbers("lhs_ragged_dims")) & set(axes):  # the groups share what is summed up
        groups = item.shape.dims[0]
    return 2 * item.shape.elements * summed // max(groups, 1)


def _applications(instruction: Instruction, shapes: list[Shape], module: HloModule) -> int:
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
    if instruction.opcode in ("all-reduce", "reduce-scatter"):  # in a ring each device adds up its part
        group = group_size(instruction, module)
        return sum(shape.elements for shape in shapes) * (group - 1) // group
    return shapes[1].elements  # select-and-scatter: each element of the source once


def _convolution(labels: str, window: HloWindow, image: Shape, kernel: Shape, out: Shape) -> int:
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


def _taps(size: int, out: int, window: HloWindow, axis: int) -> int:
    """Pairs (output position, tap) along one axis that meet an element of the input.

    Output o and tap t meet the place o·s + t·r − p of an input of which every L-th place holds an element. For each tap
    the outputs that meet one are every L / gcd(s, L)-th between two bounds, or none.
    """
    low, dilate, stride = window.pad[axis][0], window.lhs_dilate[axis], window.stride[axis]
    last = (size - 1) * dilate
    begin = np.arange(window.size[axis], dtype=np.int64) * window.rhs_dilate[axis] - low  # of the first output
    first = np.maximum(-(begin // stride), 0)
    end = np.minimum((last - begin) // stride, out - 1)
    apart = dilate // math.gcd(stride, dilate)
    if apart > 1 or dilate > 1:
        # The first output at or after `first` whose place is a multiple of the dilation.
        offsets = np.arange(apart, dtype=np.int64)[:, np.newaxis]
        fits = ((first + offsets) * stride + begin) % dilate == 0  # (apart, taps)
        first = np.where(fits.any(0), first + fits.argmax(0), end + 1)
    return int(np.maximum((end - first) // apart + 1, 0).sum())


def _custom_call(call: Instruction, shapes: list[Shape]) -> Cost:
    """The work of library calls: matrix products, convolutions, attention by their name, and those that say it."""
    known, target = calls.estimate(call), calls.target(call)
    if known is not None:
        return Cost(flops=known["flops"], transcendentals=known["transcendentals"])
    if "fmha" in target:
        flops = calls.attention_flops(call, shapes)
        return Cost(counted=False) if flops is None else Cost(flops=flops)
    if ("matmul" in target or "gemm" in target) and len(shapes) > 1:
        return Cost(flops=calls.gemm_flops(call, shapes))
    if "conv" in target and "dim_labels" in call.attributes:
        # Backward convolutions are described by the forward one's window: result and operand change places.
        image, kernel, result = shapes[0], shapes[1], calls.results(call)[0]
        if "backwardinput" in target:
            image, result = result, image
        elif "backwardfilter" in target:
            kernel, result = result, kernel
        return Cost(flops=_convolution(call.attributes["dim_labels"], call.window, image, kernel, result))
    return Cost(counted=False)
