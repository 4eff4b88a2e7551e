"""HLO text as data: what XLA prints of a compiled function, parsed into modules, computations and instructions.

The text is that of `tf.function(jit_compile=True).experimental_get_compiler_ir(*args)(stage=...)` for the stages "hlo"
(as built from the graph) and "optimized_hlo" (as run: fused, with layouts, in the order of the schedule). Operation
semantics: https://openxla.org/xla/operation_semantics.

Opcodes and attributes that this file has never heard of are kept as text; a line that is not HLO raises.
"""

import dataclasses
import functools
import re

from tfcore.inspect.hlo.shapes import Shape, Window, parse_shape, parse_window

# Attributes that name computations.
_CALLS = ("calls", "to_apply", "body", "condition", "branch_computations", "true_computation", "false_computation")
_CALLS += ("called_computations", "select", "scatter")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Where an instruction comes from, as far as XLA was told; empty where it was not.

    TensorFlow fills `op_type` and `op_name` with the graph operation's; its source file and line are those of
    TensorFlow's own innermost call, so that they say nothing (`tfcore.inspect.graph.origins` finds better ones).
    """

    op_type: str = ""
    op_name: str = ""
    source_file: str = ""
    source_line: int = 0


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line. `payload` is what stands in a parameter's or a constant's brackets; others have operands there."""

    name: str
    opcode: str
    shape: Shape
    operands: tuple[str, ...]
    attributes: dict[str, str]
    metadata: Metadata
    payload: str = ""

    @property
    def calls(self) -> tuple[str, ...]:
        """Names of the computations that this instruction runs: a fusion's, a loop's condition and body ..."""
        found = (self.attributes[key] for key in _CALLS if key in self.attributes)
        return tuple(name.lstrip("%") for text in found for name in re.findall(r"%?[\w.\-]+", text))

    def numbers(self, attribute: str) -> tuple[int, ...]:
        """Return a list of numbers such as dimensions={0,2}; () for an attribute that is not there."""
        return tuple(map(int, re.findall(r"-?\d+", self.attributes.get(attribute, ""))))

    @property
    def window(self) -> Window:
        """The window={...}; one of no dimensions where there is none."""
        return parse_window(self.attributes.get("window", "{}"))


@dataclasses.dataclass(frozen=True)
class Computation:
    """A function of HLO: its instructions by name, in the order of the text (a schedule's, if there is one)."""

    name: str
    instructions: dict[str, Instruction]
    root: str
    is_entry: bool

    @functools.cached_property
    def users(self) -> dict[str, list[str]]:
        """Names of the instructions that take each instruction's result."""
        users: dict[str, list[str]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                users[operand].append(instruction.name)
        return users

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """The parameters by number."""
        found = (item for item in self.instructions.values() if item.opcode == "parameter")
        return {int(item.payload): item for item in sorted(found, key=lambda item: int(item.payload))}


@dataclasses.dataclass(frozen=True)
class Module:
    """All computations of a compiled function by name; `header` is the first line."""

    name: str
    header: str
    computations: dict[str, Computation]

    @property
    def entry(self) -> Computation:
        """The computation that a call runs."""
        return next(item for item in self.computations.values() if item.is_entry)

    @property
    def is_scheduled(self) -> bool:
        """True where the text's order is the order in which the instructions run."""
        return "is_scheduled=true" in self.header


_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_HEADER = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) (\(.*\) -> .*)?\{\s*$")
_LINE = re.compile(r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/")
_METADATA = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|-?\d+)')
_STOPS = re.compile(r'["(){}\[\],]')


def parse(text: str) -> Module:
    """Return the module of an HLO text.

    Raises:
        ValueError: for a text without an entry computation, and for a line that is not HLO, naming it.
    """
    header, locations, computations = "", _Locations(), {}
    current: dict[str, Instruction] | None = None
    name, root, is_entry, table, pending = "", "", False, "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if pending or (current is not None and " constant({" in line):
            pending += line  # a constant of several dimensions is printed over several lines
            if pending.count("{") > pending.count("}"):
                continue
            line, pending = pending, ""
        if not line.strip():
            continue
        if line.startswith("HloModule "):
            header = line
        elif current is None and line.strip() in _TABLES:
            table = line.strip()
        elif current is None and line[:1].isdigit():
            locations.add(table, line)
        elif line.startswith("}"):
            computations[name] = Computation(name, current or {}, root, is_entry)
            current = None
        elif current is None and (found := _HEADER.match(line)):
            name, is_entry, current, root = found["name"], bool(found["entry"]), {}, ""
        elif current is not None and (found := _LINE.match(line)):
            try:
                instruction = _instruction(found["name"], _COMMENT.sub("", found["rest"]), locations)
            except (ValueError, IndexError) as error:
                raise ValueError(f"line {number} is not HLO that this parser knows ({error}): {line.strip()}") from None
            current[instruction.name] = instruction
            root = instruction.name if found["root"] else root
        else:
            raise ValueError(f"line {number} is not HLO that this parser knows: {line.strip()}")
    if not any(item.is_entry for item in computations.values()):
        raise ValueError("the text has no ENTRY computation: is it the HLO of a whole function?")
    return Module(header.removeprefix("HloModule ").split(",")[0], header, computations)


def _instruction(name: str, rest: str, locations: "_Locations") -> Instruction:
    shape, at = parse_shape(rest, 0)
    found = re.compile(r"\s*([a-zA-Z][\w\-]*)\(").match(rest, at)
    if not found:
        raise ValueError("no opcode")
    close = _matching(rest, found.end() - 1)
    inside, opcode = rest[found.end() : close], found[1]
    attributes, metadata = {}, Metadata()
    for part in _split(rest[close + 1 :].lstrip(", ")):
        key, _, value = part.partition("=")
        if key == "metadata":
            metadata = locations.metadata(dict(_METADATA.findall(value)))
        else:
            attributes[key] = value
    if opcode in ("parameter", "constant"):
        return Instruction(name, opcode, shape, (), attributes, metadata, payload=inside)
    # An operand is "%name" or "f32[2]{0} %name"; the per cent signs may be left out.
    operands = tuple(part.split(" ")[-1].lstrip("%") for part in _split(inside))
    return Instruction(name, opcode, shape, operands, attributes, metadata)


class _Locations:
    """The tables of files, functions, lines and stack frames with which newer HLO texts begin."""

    def __init__(self):
        self.files: dict[int, str] = {}
        self.places: dict[int, tuple[str, int]] = {}
        self.frames: dict[int, int] = {}

    def add(self, table: str, line: str) -> None:
        number, _, rest = line.partition(" ")
        fields = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", rest)}
        if table == "FileNames":
            self.files[int(number)] = rest.strip('"')
        elif table == "FileLocations":
            self.places[int(number)] = (self.files[fields["file_name_id"]], fields["line"])
        elif table == "StackFrames":
            self.frames[int(number)] = fields["file_location_id"]

    def metadata(self, fields: dict[str, str]) -> Metadata:
        file, line = fields.get("source_file", "").strip('"'), int(fields.get("source_line", 0))
        if "stack_frame_id" in fields and not file:
            file, line = self.places.get(self.frames.get(int(fields["stack_frame_id"]), 0), ("", 0))
        return Metadata(fields.get("op_type", "").strip('"'), fields.get("op_name", "").strip('"'), file, line)


def _matching(text: str, at: int) -> int:
    """Where the bracket that opens at a place closes."""
    for stop, depth in _stops(text, at):
        if depth == 0:
            return stop
    raise ValueError("a bracket that never closes")


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no bracket and no quotes."""
    parts, begin = [], 0
    for stop, depth in _stops(text, 0):
        if depth == 0 and text[stop] == ",":
            parts.append(text[begin:stop].strip())
            begin = stop + 1
    return [part for part in (*parts, text[begin:].strip()) if part]


def _stops(text: str, at: int):
    """(place, depth of brackets after it) of every bracket and comma outside quotes."""
    depth, quoted = 0, False
    for found in _STOPS.finditer(text, at):
        mark = found[0]
        if mark == '"':
            quoted = not quoted if text[found.start() - 1] != "\\" else quoted
        elif not quoted:
            depth += (mark in "({[") - (mark in ")}]")
            yield found.start(), depth
