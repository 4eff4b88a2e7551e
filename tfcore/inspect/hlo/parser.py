"""HLO text, as XLA prints it and as people keep it, parsed into modules, computations and instructions.

The text is what TensorFlow gives for `experimental_get_compiler_ir(*args)(stage=...)` in the stages "hlo" (as built
from the graph) and "optimized_hlo" (as run: fused, with layouts, in the order of the schedule), what JAX gives for
`jax.jit(f).lower(...).compile().as_text()`, and what `--xla_dump_to` writes. A line that is not HLO raises.
"""

import re

from tfcore.inspect.hlo.lines import TABLES, ModuleText, logical_lines, module_texts, not_hlo
from tfcore.inspect.hlo.module import Computation, Frame, HloModule, Instruction, Metadata
from tfcore.inspect.hlo.shapes import parse_shape

_HEADER = re.compile(r"(?P<entry>ENTRY\s+)?%?(?P<name>[\w.\-]+)\s*(\(.*\)\s*->.*)?\{$", re.DOTALL)
_LINE = re.compile(r'(?P<root>ROOT\s+)?%?(?P<name>[^\s=,(){}\[\]"]+)\s*=\s*(?P<rest>.*)$', re.DOTALL)
_OPCODE = re.compile(r"\s*([a-zA-Z][\w\-]*)\(")
_METADATA = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|-?\d+)', re.DOTALL)
_STOPS = re.compile(r'"(?:[^"\\]|\\.)*"|[(){}\[\],]', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse(text: str, name: str = "") -> HloModule:
    """Return the module of an HLO text; of several that called `name`.

    Raises:
        ValueError: for a text that is no HLO, saying what it is; for a line that is not HLO, naming it; for a text
            without an entry computation, or with several modules and no `name`, naming what it has.
    """
    modules = module_texts(text)
    names = [module.name for module in modules]
    if name:
        modules = [module for module in modules if module.name == name]
        if not modules:
            raise ValueError(f"no module is called {name!r}: there is {', '.join(names)}")
    if len(modules) > 1:
        raise ValueError(f"the text holds {len(modules)} modules, not one: {', '.join(names)}; choose one by its name")
    return _parse(modules[0])


def module_names(text: str) -> list[str]:
    """Return the names of the modules that stand in a text.

    Raises:
        ValueError: for a text that is no HLO, saying what it is.
    """
    return [module.name for module in module_texts(text)]


def _parse(text: ModuleText) -> HloModule:
    header, locations, table = "", _Locations(), ""
    computations: dict[str, Computation] = {}
    current: dict[str, Instruction] | None = None
    name, root, is_entry = "", "", False
    for number, line in logical_lines(text):
        if current is not None and line != "}":
            found = _LINE.match(line)
            if found is None:
                raise not_hlo(number, line, "no instruction")
            try:
                item = _instruction(found["name"], found["rest"], locations, current, number)
            except (ValueError, IndexError) as error:
                raise not_hlo(number, line, str(error)) from None
            current[item.name] = item
            root = item.name if found["root"] else root
        elif current is not None:
            if not current:
                raise not_hlo(number, line, f"the computation %{name} is empty")
            computations[name] = Computation(name, current, root or next(reversed(current)), is_entry)
            current = None
        elif line.startswith("HloModule"):
            header = line
        elif line in TABLES:
            table = line
        elif line[0] in "0123456789":
            locations.add(table, line)
        else:
            found = _HEADER.match(line)
            if not found:
                raise not_hlo(number, line)
            name, is_entry, current, root = found["name"], bool(found["entry"]), {}, ""
            if name in computations:
                raise not_hlo(number, line, f"a second computation %{name}")
            if is_entry and any(item.is_entry for item in computations.values()):
                raise not_hlo(number, line, "a second ENTRY: two modules in one?")
    if not any(item.is_entry for item in computations.values()):
        names = f", only {', '.join(f'%{name}' for name in list(computations)[:5])}" if computations else ""
        raise ValueError(f"the text has no ENTRY computation{names}: is it the HLO of a whole function?")
    _check_calls(computations)
    return HloModule(text.name, header, computations)


def _check_calls(computations: dict[str, Computation]) -> None:
    for computation in computations.values():
        for item in computation.instructions.values():
            for name in item.calls:
                if name not in computations:
                    line = f"{item.name} = {item.opcode}(...), which calls %{name}"
                    raise not_hlo(item.line, line, f"the text has no computation %{name}")


def _instruction(
    name: str, rest: str, locations: "_Locations", known: dict[str, Instruction], number: int
) -> Instruction:
    if name in known:
        raise ValueError(f"a second instruction %{name}")
    shape, at = parse_shape(rest, 0)
    found = _OPCODE.match(rest, at)
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
        return Instruction(name, opcode, shape, (), attributes, metadata, inside, number)
    operands = tuple(map(_operand, _split(inside)))
    for operand in operands:
        if operand not in known:
            raise ValueError(f"there is no %{operand} above")
    return Instruction(name, opcode, shape, operands, attributes, metadata, "", number)


def _operand(text: str) -> str:
    """The name in "%name" or "f32[2]{0} %name"; the per cent sign may be left out."""
    name = text.split()[-1].lstrip("%")
    if "(" in name:
        raise ValueError(f"the operand {text!r} is an instruction itself: give it a line of its own")
    return name


class _Locations:
    """The tables of files, functions, lines and stack frames with which newer HLO texts begin."""

    def __init__(self):
        self._names: dict[str, dict[int, str]] = {"FileNames": {}, "FunctionNames": {}}
        self._frames: dict[int, Frame] = {}  # by number of the location
        self._stack: dict[int, tuple[int, int]] = {}  # (location, frame of the caller)
        self._chains: dict[int, tuple[Frame, ...]] = {}

    def add(self, table: str, line: str) -> None:
        number, _, rest = line.partition(" ")
        if table in self._names:
            self._names[table][int(number)] = _unquoted(rest.strip())
            return
        fields = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", rest)}
        if table == "FileLocations":
            file = self._names["FileNames"].get(fields.get("file_name_id", 0), "")
            function = self._names["FunctionNames"].get(fields.get("function_name_id", 0), "")
            self._frames[int(number)] = Frame(file, fields.get("line", 0), function)
        elif table == "StackFrames":
            # XLA prints the caller's number plus one: 1 is no caller.
            self._stack[int(number)] = fields.get("file_location_id", 0), fields.get("parent_frame_id", 1) - 1

    def metadata(self, fields: dict[str, str]) -> Metadata:
        file, line = _unquoted(fields.get("source_file", "")), int(fields.get("source_line", 0))
        frames = self._chain(int(fields.get("stack_frame_id", 0)))
        if not frames and file and line:
            frames = (Frame(file, line),)
        return Metadata(_unquoted(fields.get("op_type", "")), _unquoted(fields.get("op_name", "")), frames)

    def _chain(self, number: int) -> tuple[Frame, ...]:
        if number not in self._chains:
            frames, at, seen = [], number, set()
            while at in self._stack and at not in seen:
                seen.add(at)
                location, at = self._stack[at]
                if location in self._frames:
                    frames.append(self._frames[location])
            self._chains[number] = tuple(frames)
        return self._chains[number]


def _unquoted(text: str) -> str:
    text = text[1:-1] if text[:1] == '"' else text
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


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
    depth = 0
    for found in _STOPS.finditer(text, at):
        mark = found[0]
        if mark[0] != '"':
            depth += (mark in "({[") - (mark in ")}]")
            yield found.start(), depth
