"""What a walk records: a stop for each tensor, in the order in which the model computes them."""

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any

import numpy as np

import tfcore

AROUND = 3  # lines of source before and after
_MACHINERY = ("tfcore/context.py", "tfcore/module.py", "tfcore/inspect/", "/functools.py", "/contextlib.py")


@dataclasses.dataclass(frozen=True)
class Place:
    """A line of source with those around it: `lines` begins with line `first`."""

    file: str
    line: int
    first: int
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a stop's numbers follow from those of earlier stops, for a reader who asks for one of them.

    Attributes:
        kind: "dense", "convolution", "involution", "score", "weight", "mix", "sum", "max pool" and so on.
        inputs: names of the stops that it was computed from.
        settings: numbers and words that the kind needs, such as a stride or an epsilon.
    """

    kind: str
    inputs: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Parameter:
    """A variable that a stop uses, with the gradient of the loss with respect to it (None: it gets none)."""

    value: np.ndarray
    gradient: np.ndarray | None


@dataclasses.dataclass
class Stop:
    """One tensor of the forward pass.

    Attributes:
        name: unique in a walk: a module's path, `relu(hidden)` of an activation, `blocks/0/attention: weights` of a
            step inside of a module, `sum(...)`, `max pool(...)` of what happens between modules.
        kind: "input", "module", "activation", "step", "between" or "loss".
        of: class or function that computes it.
        formula: the first sentence of the operation's docstring.
        axes: a letter for each axis of `value`.
        value: without the batch's axis.
        gradient: of the loss with respect to it; None where the loss does not depend on it.
        parameters: by their names in the module.
        rule: how its numbers follow from others; None: not known.
        source, call: where the operation is defined, and the line that called for it.
        note: what is to be said of how it was recorded.
        also: names of the modules around that return the same tensor.
    """

    name: str
    kind: str
    of: str
    formula: str
    axes: str
    value: np.ndarray
    gradient: np.ndarray | None = None
    parameters: dict[str, Parameter] = dataclasses.field(default_factory=dict)
    rule: Rule | None = None
    source: Place | None = None
    call: Place | None = None
    note: str = ""
    also: list[str] = dataclasses.field(default_factory=list)

    def summary(self) -> dict:
        """Return shape, axes, range, mean and share of zeros, as JSON takes them; of finite numbers alone."""
        return {
            "name": self.name,
            "kind": self.kind,
            "of": self.of,
            "axes": self.axes,
            "shape": list(self.value.shape),
            "value": statistics(self.value),
            "gradient": None if self.gradient is None else statistics(self.gradient),
            "parameters": {
                name: {
                    "shape": list(parameter.value.shape),
                    "value": statistics(parameter.value),
                    "gradient": None if parameter.gradient is None else statistics(parameter.gradient),
                }
                for name, parameter in self.parameters.items()
            },
            "formula": self.formula,
            "source": None if self.source is None else f"{self.source.file}:{self.source.line}",
            "call": None if self.call is None else f"{self.call.file}:{self.call.line}",
            "note": self.note,
        }


@dataclasses.dataclass
class Walk:
    """One example's way through a model.

    Attributes:
        stops: from the input to the loss.
        outputs: what the model returned, (classes,).
        loss: of this example.
        label: the class that the loss asks for.
    """

    stops: list[Stop]
    outputs: np.ndarray
    loss: float
    label: int

    def __getitem__(self, name: str) -> Stop:
        """Return the stop of a name. Raises KeyError for an unknown one."""
        return next((stop for stop in self.stops if stop.name == name), None) or self._unknown(name)

    def _unknown(self, name: str):
        raise KeyError(f"{name}: no such stop; there are {', '.join(stop.name for stop in self.stops)}")

    def first_nonfinite(self) -> str | None:
        """Return the name of the first stop that holds a NaN or an infinity, or None."""
        return next((stop.name for stop in self.stops if not np.isfinite(stop.value).all()), None)

    def to_json(self) -> dict:
        """Return what `scripts/walk.py --json` writes: every stop without its numbers, but for what sums them up."""
        return {
            "loss": self.loss if np.isfinite(self.loss) else None,
            "label": self.label,
            "outputs": [float(x) if np.isfinite(x) else None for x in self.outputs.ravel()],
            "first_nonfinite": self.first_nonfinite(),
            "stops": [stop.summary() for stop in self.stops],
        }


def statistics(array: np.ndarray) -> dict:
    """Return least, greatest and mean of the finite numbers, the share of zeros, and how many are not finite."""
    numbers = array[np.isfinite(array)].astype(np.float64)
    if not numbers.size:
        return {"min": None, "max": None, "mean": None, "zeros": 0.0, "nonfinite": int(array.size)}
    return {
        "min": float(numbers.min()),
        "max": float(numbers.max()),
        "mean": float(numbers.mean()),
        "zeros": float(np.mean(array == 0)),
        "nonfinite": int(array.size - numbers.size),
    }


def formula_of(operation: Callable) -> str:
    """Return the first paragraph of a docstring, in one line, as far as its first sentence goes."""
    text = " ".join((inspect.getdoc(operation) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".")


@cache
def place_of(operation: Callable) -> Place | None:
    """Return where a function or class is defined; None for one without source."""
    try:
        function = inspect.unwrap(operation)
        file = inspect.getsourcefile(function)
        line = inspect.getsourcelines(function)[1]
    except (OSError, TypeError):
        return None
    return None if file is None else lines_around(file, line)


def place_of_call() -> Place | None:
    """Return the line of the model that is calling: the nearest one outside of what watches calls."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename.replace(os.sep, "/")
        if not any(part in file for part in _MACHINERY):
            return lines_around(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


@cache
def lines_around(file: str, line: int) -> Place | None:
    """Return a line of a file with its neighbours; None where the file cannot be read. Our own are named from above."""
    try:
        with open(file, encoding="utf-8") as opened:
            lines = opened.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    first = max(line - AROUND, 1)
    root = os.path.dirname(os.path.dirname(os.path.abspath(tfcore.__file__)))
    shown = os.path.relpath(file, root) if os.path.abspath(file).startswith(root + os.sep) else os.path.basename(file)
    return Place(shown, line, first, tuple(lines[first - 1 : line + AROUND]))
