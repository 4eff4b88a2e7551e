"""Shapes and windows of HLO: an array's or a tuple's type, the sizes of a convolution's or a reduction's window."""

import dataclasses
import functools
import math
import re

# Bits of an element; complex numbers are two floats.
_BITS = {"pred": 8, "c64": 64, "c128": 128, "token": 0, "opaque": 0}
_BETWEEN = re.compile(r"[,\s]*")
_SHAPE = re.compile(r"(?P<dtype>[a-z]\w*)\[(?P<dims>[^\]]*)\](?P<layout>\{[^}]*\})?")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's type, or a tuple's. `dims` are elements; `layout` the text in braces, minor dimension first."""

    dtype: str  # "f32", "pred" ...; "tuple"
    dims: tuple[int, ...] = ()
    layout: str = ""
    parts: tuple["Shape", ...] = ()  # of a tuple

    @property
    def elements(self) -> int:
        """Number of elements; of a tuple the sum over its parts."""
        if self.dtype == "tuple":
            return sum(part.elements for part in self.parts)
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Size in bytes without padding; of a tuple the sum over its parts, its table of pointers not counted."""
        if self.dtype == "tuple":
            return sum(part.bytes for part in self.parts)
        return -(-self.elements * _bits(self.dtype, self.layout) // 8)

    @property
    def space(self) -> int:
        """The memory space in which it lies, S(n) of the layout: 0 the device's own, 5 the host's."""
        found = re.search(r"S\((\d+)\)", self.layout)
        return int(found[1]) if found else 0

    def __str__(self) -> str:
        if self.dtype == "tuple":
            return f"({', '.join(map(str, self.parts))})"
        return f"{self.dtype}[{','.join(map(str, self.dims))}]{self.layout}"


@dataclasses.dataclass(frozen=True)
class HloWindow:
    """A window's sizes, for each spatial dimension: of a convolution or a reduce-window."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]  # before and after; negative: cut off
    lhs_dilate: tuple[int, ...]
    rhs_dilate: tuple[int, ...]


def parse_shape(text: str, at: int = 0) -> tuple[Shape, int]:
    """Return the shape that begins at a place of a text, and the place where it ends.

    Raises:
        ValueError: where no shape begins.
    """
    if text.startswith("b(", at):  # a buffer that is handed on as such
        shape, at = parse_shape(text, at + 2)
        return shape, _after(text, at) + 1
    if text[at : at + 1] != "(":
        return _array(text, at)
    parts, at = [], at + 1
    while text[at : at + 1] != ")":
        part, at = parse_shape(text, at)
        parts.append(part)
        at = _after(text, at)
    return Shape("tuple", parts=tuple(parts)), at + 1


def _array(text: str, at: int) -> tuple[Shape, int]:
    found = _SHAPE.match(text, at)
    if not found:
        raise ValueError("no shape: print with shapes")
    return _make_array(found["dtype"], found["dims"], found["layout"] or ""), found.end()


@functools.lru_cache(maxsize=4096)
def _make_array(dtype: str, dims: str, layout: str) -> Shape:
    return Shape(dtype, tuple(int(size.strip("<=? ")) for size in dims.split(",") if size.strip()), layout)


def parse_window(text: str) -> HloWindow:
    """Return the window of a text such as {size=3x3 stride=2x2 pad=0_1x0_1}; what it leaves out is 1, padding 0."""
    fields = dict(part.split("=") for part in text.strip("{}").split())
    size = _sizes(fields.get("size", ""))
    pad = fields.get("pad", "x".join(["0_0"] * len(size)))
    ones = "x".join(["1"] * len(size))
    return HloWindow(
        size=size,
        stride=_sizes(fields.get("stride", ones)),
        pad=tuple(_pair(part) for part in pad.split("x")) if size else (),
        lhs_dilate=_sizes(fields.get("lhs_dilate", ones)),
        rhs_dilate=_sizes(fields.get("rhs_dilate", ones)),
    )


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x"))) if text else ()


@functools.lru_cache(maxsize=4096)
def _bits(dtype: str, layout: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    found = re.match(r"[a-z]+?(\d+)", dtype)  # f32, bf16, s8, u4, f8e4m3fn
    if not found:
        raise ValueError(f"unknown dtype {dtype}")
    packed = re.search(r"E\((\d+)\)", layout)  # without it, an element of four bits takes a byte
    return int(packed[1]) if packed else max(int(found[1]), 8)


def _after(text: str, at: int) -> int:
    """Where the commas and blanks from `at` on end."""
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _pair(text: str) -> tuple[int, int]:
    low, high = text.split("_")
    return int(low), int(high)
