"""The base of everything that owns variables: layers, models, optimizers, the loss scale."""

import contextlib
import functools
import math
import re
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

from tfcore.context import through_interceptors


class Module(tf.Module):
    """A tf.Module whose variables can be listed by path, in the order in which they were made.

    Paths are attribute names joined by '/', such as 'involutions/0/reduce/kernel'. They name weights in checkpoints,
    parameter tables, reports and comparisons. Calls can be watched and changed (`tfcore.context.intercept`), and in a
    graph the operations of a call are named after the module's path (`module_scopes`).
    """

    def __init_subclass__(cls, **settings):
        super().__init_subclass__(**settings)
        if "__call__" in vars(cls):
            cls.__call__ = _watched_and_named(cls.__call__)

    def __repr__(self) -> str:
        """Return the class, its parameters and their shapes and, line by line, the modules inside with theirs."""
        count = sum(math.prod(variable.shape) for variable in self.named_variables().values())
        parts = dict(_parts(self, ""))
        shapes = [f"{path} {tuple(part.shape)}" for path, part in parts.items() if isinstance(part, tf.Variable)]
        if len(shapes) > _SHOWN:
            shapes[_SHOWN:] = [f"{len(shapes) - _SHOWN} more"]
        modules = [f"\n{path}: {part!r}" for path, part in parts.items() if isinstance(part, Module)]
        inside = "".join(modules).replace("\n", "\n  ")
        return f"{type(self).__name__}({', '.join([f'{count:,} parameters', *shapes])}){inside}"

    def named_variables(self) -> dict[str, tf.Variable]:
        """Return all variables by path, in the order in which they are met; a shared one under its first path alone."""
        paths: dict[int, str] = {}  # of a variable's id
        variables = dict(_walk(self, ""))
        return {path: v for path, v in variables.items() if paths.setdefault(id(v), path) == path}

    def named_trainable_variables(self) -> dict[str, tf.Variable]:
        """Return the variables that gradients update, by path."""
        return {path: variable for path, variable in self.named_variables().items() if variable.trainable}

    def named_modules(self) -> dict[str, "Module"]:
        """Return all modules inside by path, this one first under the empty path; a shared one under its first."""
        found: dict[str, Module] = {}
        for path, module in _walk_modules(self, ""):
            if all(module is not other for other in found.values()):
                found[path] = module
        return found


def module_scopes(graph: tf.Graph) -> dict[str, str]:
    """Return {name scope: path} of the modules that were called while `graph` was traced.

    Operations of the outermost module called stand in a scope named as that module, those of the modules inside in
    that scope and the module's path, such as 'vision_transformer/blocks/3/attention/query', whose path is
    'blocks/3/attention/query'. A module that is called twice has one scope.
    """
    return dict(graph.get_collection(_SCOPES))


_SHOWN = 6  # variables in a module's repr: an optimizer has several for each of its model's
_SCOPES = "tfcore_module_scopes"
_tracing = threading.local()  # .scopes: {id of a module: (scope, path)}, inside of the outermost module being called


def _watched_and_named(method: Callable) -> Callable:
    """Let interceptors see a call, and name its operations after the module; eager code has no names.

    `super().__call__` is part of the call that is under way, and no call of its own.
    """

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        if type(self).__call__ is not wrapped:
            return method(self, *args, **kwargs)
        if tf.executing_eagerly():
            return through_interceptors(self, functools.partial(method, self), args, kwargs)
        with _scope_of(self):
            return through_interceptors(self, functools.partial(method, self), args, kwargs)

    return wrapped


@contextlib.contextmanager
def update_scope(path: str) -> Iterator[None]:
    """Name the operations that update the variable of a path 'update/PATH/...'; `module_scopes` gives its module.

    In eager code nothing happens.
    """
    if tf.executing_eagerly():
        yield
        return
    outer = tf.get_current_name_scope()
    with _open(f"{outer}/update/{path}" if outer else f"update/{path}", path.rpartition("/")[0]):
        yield


@contextlib.contextmanager
def _open(scope: str, path: str) -> Iterator[None]:
    scope = re.sub(r"[^\w./>-]", "_", scope)  # a dictionary's key may hold anything
    tf.compat.v1.add_to_collection(_SCOPES, (scope, path))
    with tf.name_scope(scope + "/"):  # with the last slash, a second call gets the same name
        yield


@contextlib.contextmanager
def _scope_of(module: Module) -> Iterator[None]:
    known = getattr(_tracing, "scopes", None)
    if known is not None and id(module) not in known:
        yield  # made inside a call, so that no path leads to it: its operations are the caller's
        return
    if known is None:
        outer = tf.get_current_name_scope()
        name = module.name.lstrip("_")  # with which no scope may begin
        root = f"{outer}/{name}" if outer else name
        modules = module.named_modules().items()
        _tracing.scopes = {id(inner): (f"{root}/{path}".rstrip("/"), path) for path, inner in modules}
    try:
        with _open(*_tracing.scopes[id(module)]):
            yield
    finally:
        if known is None:
            del _tracing.scopes


def _walk(value, path: str) -> Iterator[tuple[str, tf.Variable]]:
    if isinstance(value, tf.Variable):
        yield path, value
    for name, child in _children(value):
        yield from _walk(child, f"{path}/{name}" if path else str(name))


def _walk_modules(value, path: str) -> Iterator[tuple[str, Module]]:
    if isinstance(value, Module):
        yield path, value
    for name, child in _children(value):
        yield from _walk_modules(child, f"{path}/{name}" if path else str(name))


def _parts(value, path: str) -> Iterator[tuple[str, object]]:
    """The variables and modules of a module, those in its lists and dictionaries too, but none of theirs."""
    for name, child in _children(value):
        below = f"{path}/{name}" if path else str(name)
        if isinstance(child, tf.Variable | Module):
            yield below, child
        else:
            yield from _parts(child, below)


def _children(value) -> Iterator[tuple[object, object]]:
    """The parts of a module, dict, list or tuple with the names that paths give them."""
    if isinstance(value, Module):
        # Names with an underscore are tf.Module's own bookkeeping.
        yield from ((name, child) for name, child in vars(value).items() if not name.startswith("_"))
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
