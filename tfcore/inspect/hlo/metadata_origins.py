"""The origins of a module's instructions from the HLO itself: names of operations and stack frames.

    forward    named so (`jvp`), or needed by what is
    backward   named so (`transpose`, "gradient_tape/")
    update     depends on a gradient without being named as one: clipping, optimizer
    other      the rest: metrics

A module without gradients is forward as a whole.
"""

import dataclasses
import functools
import os
import re

from tfcore.inspect.hlo import op_names
from tfcore.inspect.hlo.module import Computation, Frame, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import RUNS_OTHERS
from tfcore.inspect.hlo.origins import Origin

_LIBRARY = re.compile(r"(^|[/\\])(site|dist)-packages[/\\]|[/\\]lib[/\\]python3[.\d]*[/\\]|^<")
_SAYS_NOTHING = re.compile(r"[/\\]tensorflow[/\\]python[/\\]")  # the line in TensorFlow that made the operation
# Classes whose call only runs another module's.
_WRAPPERS = frozenset(("Layer", "Operation", "HloModule", "JitFn", "JitWrapped", "GradFn", "SimpleGradFn", "RematFn"))
_DESCENDED = RUNS_OTHERS | {"fusion"}
_Key = tuple[str, str]  # computation and instruction
_Names = dict[_Key, list[op_names.Name]]


class MetadataOrigins:
    """The origin of every instruction of a module, as far as its metadata say."""

    def __init__(self, module: HloModule):
        full = _full_names(module)
        self._names: _Names = {
            (part.name, item.name): op_names.split(full[part.name, item.name], item.metadata.op_type)
            for part in module.computations.values()
            for item in part.instructions.values()
            if item.opcode != "parameter" and full[part.name, item.name]
        }
        self._phases = _phases(module, self._names)
        self._stacks = _Stacks(module)

    def of(self, item: Instruction, computation: str) -> tuple[Origin, ...]:
        """Return the origins of an instruction: several where the compiler merged some, () for none."""
        names = self._names.get((computation, item.name), [])
        source, function = place(item.metadata.frames)
        if not names and not source:
            return ()
        phase = self._phases.get((computation, item.name), "forward")
        layer = self._stacks.layer(item.metadata.frames) or (f"{function}()" if function else "")
        found = [Origin(name.operation, name.layer or layer, source, name.phase or phase, name.again) for name in names]
        return tuple(dict.fromkeys(found)) or (Origin("", layer, source, phase),)


def whole_names(module: HloModule) -> HloModule:
    """Return a module in which every instruction bears its operation's whole name: see `_full_names`."""
    names = _full_names(module)
    computations = {}
    for part in module.computations.values():
        items = {
            item.name: dataclasses.replace(
                item, metadata=dataclasses.replace(item.metadata, op_name=names[part.name, item.name])
            )
            for item in part.instructions.values()
        }
        computations[part.name] = dataclasses.replace(part, instructions=items)
    return dataclasses.replace(module, computations=computations)


def _full_names(module: HloModule) -> dict[tuple[str, str], str]:
    """{(computation, instruction): name of the operation}.

    As built, JAX names what stands in called computations relative to the call: there the caller's name goes before.
    A single word that no caller completes is no name.
    """
    names: dict[tuple[str, str], str] = {}
    for part, before in _callers_first(module):
        for item in part.instructions.values():
            own = item.metadata.op_name
            if own and before and not op_names.is_jax(own):
                own = f"{before}/{own}"
            elif "/" not in own and not item.metadata.op_type:
                own = ""
            names[part.name, item.name] = own
    return names


def _callers_first(module: HloModule) -> list[tuple[Computation, str]]:
    """(computation, name of the operation that calls it, as JAX wrote it, or "") of all, callers before the called."""
    before = {module.entry.name: ""}
    for part in _in_order(module):
        outer = before.setdefault(part.name, "")
        for item in part.instructions.values():
            if item.opcode not in _DESCENDED:
                continue
            own = item.metadata.op_name
            whole = own if op_names.is_jax(own) else f"{outer}/{own}".rstrip("/") if outer else ""
            for name in item.calls:
                before.setdefault(name, whole)
    return [(part, before[part.name]) for part in _in_order(module)]


def _in_order(module: HloModule) -> list[Computation]:
    """All computations, callers before the called: XLA prints them the other way round, people as they like."""
    order: dict[str, Computation] = {}
    done: set[str] = set()
    for first in (module.entry, *module.computations.values()):
        stack = [(first, iter(_called(first)))]
        while stack:
            part, rest = stack[-1]
            name = next((name for name in rest if name not in done), None) if part.name not in done else None
            if name is not None:
                stack.append((module.computations[name], iter(_called(module.computations[name]))))
                continue
            stack.pop()
            if part.name not in done:
                done.add(part.name)
                order[part.name] = part
    return list(reversed(order.values()))


def _called(part: Computation) -> list[str]:
    return [name for item in part.instructions.values() if item.calls for name in item.calls]


def _phases(module: HloModule, names: _Names) -> dict[_Key, str]:
    """{(computation, instruction): phase} of those whose names do not say it."""
    named = {key: _latest(found) for key, found in names.items()}
    if "backward" not in named.values():
        return {}
    order = _in_order(module)
    late = _late(order, named)
    phases: dict[_Key, str] = {}
    needed: dict[str, set[str]] = {}  # by computation: for which phases its result is needed
    for part in order:
        flags: dict[str, set[str]] = {name: set() for name in part.instructions}
        flags[part.root] |= needed.get(part.name, set())
        for item in reversed(part.instructions.values()):
            key = part.name, item.name
            own = flags[item.name]
            phases[key] = "update" if key in late else next((x for x in ("forward", "update") if x in own), "other")
            given = {"forward"} if named.get(key) else {"update"} if key in late else own
            for operand in item.operands:
                flags[operand] |= given
            for name in item.calls:
                needed.setdefault(name, set()).update(own)
    return phases


def _late(order: list[Computation], named: dict[_Key, str]) -> set[_Key]:
    """What depends on a gradient, and is none by its name; through calls and loops as a whole."""
    inside: dict[str, bool] = {}  # whether a computation holds gradients
    for part in reversed(order):
        inside[part.name] = any(
            named.get((part.name, item.name)) == "backward" or any(inside[name] for name in item.calls)
            for item in part.instructions.values()
        )
    late: set[_Key] = set()
    given: dict[str, set[int]] = {}  # by computation: which of its parameters depend on a gradient
    for part in order:
        after: set[str] = set()
        for item in part.instructions.values():
            places = {place for place, name in enumerate(item.operands) if name in after}
            number = int(item.payload) if item.opcode == "parameter" else -1
            if places or number in given.get(part.name, ()) or any(inside[name] for name in item.calls):
                after.add(item.name)
                late.add((part.name, item.name))
            if named.get((part.name, item.name)) == "backward":
                after.add(item.name)
            for place, name in enumerate(item.calls):
                numbers = places
                if item.opcode == "while":
                    numbers = {0} if places else set()
                elif item.opcode == "conditional":  # the first operand chooses
                    numbers = {0} if place + 1 in places else set()
                given.setdefault(name, set()).update(numbers)
    return late


def _latest(names: list[op_names.Name]) -> str:
    phases = {name.phase for name in names}
    return "backward" if "backward" in phases else "forward" if "forward" in phases else ""


def place(frames: tuple[Frame, ...]) -> tuple[str, str]:
    """Return ('file.py:line', function) of the innermost call outside of installed packages, else of the innermost."""
    own = next((frame for frame in frames if frame.line and not _is_library(frame.file)), None)
    if own is None:
        frames = tuple(frame for frame in frames if frame.line and not _SAYS_NOTHING.search(frame.file))
        return (f"{_shown(frames[0].file)}:{frames[0].line}", "") if frames else ("", "")
    parts = [part for part in own.function.split(".<locals>.") if not part.startswith("<")]
    return f"{_shown(own.file)}:{own.line}", parts[-1] if parts else ""


@functools.lru_cache(maxsize=4096)
def _is_library(file: str) -> bool:
    return _LIBRARY.search(file) is not None


@functools.lru_cache(maxsize=4096)
def _shown(file: str) -> str:
    """A path below the folder one stands in from there on, any other as it is."""
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return file if relative.startswith("..") else relative


class _Stacks:
    """Layers from the frames of calls of modules: C.__call__ -> Conv.__call__ is C/Conv, with the caller's line behind
    where C calls several.
    """

    def __init__(self, module: HloModule):
        stacks = {item.metadata.frames for part in module.computations.values() for item in part.instructions.values()}
        self._lines: dict[tuple[str, ...], set[int]] = {}
        for stack in stacks:
            path: tuple[str, ...] = ()
            for name, line in _module_calls(stack):
                path = (*path, name)
                self._lines.setdefault(path, set()).add(line)
        self._layers = {stack: self._layer(stack) for stack in stacks}

    def layer(self, frames: tuple[Frame, ...]) -> str:
        return self._layers[frames]

    def _layer(self, frames: tuple[Frame, ...]) -> str:
        path: tuple[str, ...] = ()
        layers: list[str] = []
        for name, line in _module_calls(frames):
            path = (*path, name)
            several = layers and len(self._lines[path]) > 1
            layers.append(f"{name}:{line}" if several else name)
        return "/".join(layers)


def _module_calls(frames: tuple[Frame, ...]) -> list[tuple[str, int]]:
    """(class, line of the caller) of the modules that are being called, the outermost first."""
    found = []
    for place, frame in enumerate(frames):
        name = frame.function.rpartition("<locals>.")[2]
        if name.endswith(".__call__") and (name := name.removesuffix(".__call__")) not in _WRAPPERS:
            found.append((name, frames[place + 1].line if place + 1 < len(frames) else 0))
    return found[::-1]
