"""The Python lines behind a graph's operations."""

import dataclasses
import functools
import os
import re
import sysconfig

import tensorflow as tf

import tfcore

_OWN = os.path.dirname(tfcore.__file__)
_LIBRARIES = tuple(
    os.path.realpath(path) + os.sep
    for path in {
        os.path.dirname(tf.__file__),
        *(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")),
    }
)
# What every call passes through on its way.
_WRAPPERS = tuple(
    os.path.join(_OWN, *path)
    for path in (
        ("module.py",),
        ("context.py",),
        ("inspect", "profile", "compiler.py"),
        ("inspect", "profile", "functions.py"),
    )
)
_TAPE = re.compile(r"eager/backprop\.py$|ops/gradients_util\.py$")


@dataclasses.dataclass(frozen=True)
class TracedOp:
    """An operation of a graph and the line that made it; `graph.passes` finds its layer and its phase."""

    op: tf.Operation
    source: str
    function: str
    gradient: bool  # made inside the tape
    own_line: bool  # and there by code that is not TensorFlow's: a custom gradient
    tape: tuple[str, str]  # the line and the function that asked for the gradient


def describe(op: tf.Operation) -> TracedOp:
    """Return the operation with its line: the innermost frame outside of libraries, and whether it is a gradient's."""
    gradient, own_line = False, False
    source, function, tape = "", "", ("", "")
    for frame in reversed(op.traceback or ()):  # None: a rewrite of a loop has made it
        if _TAPE.search(frame.filename):
            gradient, own_line = True, bool(source)
        elif place := _place(frame.filename):
            if gradient:
                tape = (f"{place}:{frame.lineno}", frame.name)
                break
            if not source:
                source, function = f"{place}:{frame.lineno}", frame.name
    return TracedOp(op, source, function, gradient, own_line, tape)


@functools.cache
def _place(filename: str) -> str:
    """The path to show for a source file; '' for a library's."""
    path = os.path.realpath(filename)
    if path.startswith(_OWN + os.sep):
        return "" if path in _WRAPPERS else os.path.relpath(path, os.path.dirname(_OWN))
    if path.startswith(_LIBRARIES) or not os.path.isabs(filename):
        return ""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
