"""HLO as data: a module's computations and their instructions, and what the compiler was told of where each comes from.

`parser` makes it from text, `proto` from XLA's own messages. Operation semantics:
https://openxla.org/xla/operation_semantics. Opcodes and attributes that nobody here has heard of are kept as text.
"""

import dataclasses
import functools
import json
import re

from tfcore.inspect.hlo.shapes import HloWindow, Shape, parse_window

# Attributes that name computations.
CALLS = (
    "calls", "to_apply", "body", "condition", "branch_computations", "true_computation", "false_computation",
    "called_computations", "select", "scatter",
)  # fmt: skip
_NAME = re.compile(r"%?([\w.\-]+)")
_FLAG = re.compile(r"\b(num_partitions|replica_count)=(\d+)")


@dataclasses.dataclass(frozen=True)
class Frame:
    """One call on the Python stack: `function` as Python qualifies it, such as "Dense.__call__"; "" where unknown."""

    file: str
    line: int
    function: str = ""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Where an instruction comes from, as far as XLA was told; empty where it was not.

    TensorFlow fills `op_type` and `op_name` with the graph operation's; JAX puts its transformations and name scopes
    into `op_name`. `frames`: the Python stack, the innermost call first; older texts know one line of it.
    """

    op_type: str = ""
    op_name: str = ""
    frames: tuple[Frame, ...] = ()

    @property
    def source_file(self) -> str:
        """The file of the innermost call."""
        return self.frames[0].file if self.frames else ""

    @property
    def source_line(self) -> int:
        """The line of the innermost call; 0 where unknown."""
        return self.frames[0].line if self.frames else 0


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One operation. `payload` is what stands in a parameter's or a constant's brackets; others have operands there."""

    name: str
    opcode: str
    shape: Shape
    operands: tuple[str, ...]
    attributes: dict[str, str]
    metadata: Metadata
    payload: str = ""
    line: int = 0  # of the text, from 1; 0 where there is no text

    @functools.cached_property
    def calls(self) -> tuple[str, ...]:
        """Names of the computations that this instruction runs: a fusion's, a loop's condition and body ..."""
        if not self.attributes:
            return ()
        texts = [self.attributes[key] for key in CALLS if key in self.attributes]
        return tuple(name for text in texts for name in _NAME.findall(text))

    def numbers(self, attribute: str) -> tuple[int, ...]:
        """Return a list of numbers such as dimensions={0,2}; () for an attribute that is not there."""
        return tuple(map(int, re.findall(r"-?\d+", self.attributes.get(attribute, ""))))

    @property
    def window(self) -> HloWindow:
        """The window={...}; one of no dimensions where there is none."""
        return parse_window(self.attributes.get("window", "{}"))

    @functools.cached_property
    def config(self) -> dict:
        """The JSON of backend_config, quoted or not; {} where there is none, or something else than JSON."""
        text = self.attributes.get("backend_config", "")
        try:
            found = json.loads(text) if text[:1] in ("{", '"') else {}
            found = json.loads(found) if isinstance(found, str) else found
        except ValueError:  # {index = 0 : ui64}: attributes of MLIR
            return {}
        return found if isinstance(found, dict) else {}


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
class HloModule:
    """All computations of a compiled function by name; `header` is the first line."""

    name: str
    header: str
    computations: dict[str, Computation]

    @functools.cached_property
    def entry(self) -> Computation:
        """The computation that a call runs."""
        return next(item for item in self.computations.values() if item.is_entry)

    @property
    def is_scheduled(self) -> bool:
        """True where the text's order is the order in which the instructions run."""
        return "is_scheduled=true" in self.header

    @functools.cached_property
    def devices(self) -> tuple[int, int]:
        """(partitions, replicas): on how many devices the module runs, each with its part of the arrays."""
        found = {name: int(count) for name, count in _FLAG.findall(self.header)}
        return found.get("num_partitions", 1), found.get("replica_count", 1)
