"""A forward pass as a list of named calls: what the audit and the interventions see and change of it.

A module's call is named by its path, an activation's by what it is applied to, `relu(convolutions/0)`; the model itself
is `model`. A second call of the same name in one pass (a Perceiver's second iteration) is `blocks/0/attention #2`.
"""

import contextlib
import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfcore.context import intercept
from tfcore.module import Module

# A tensor handed from call to call is recognised among the outputs of so many latest calls, which are kept for that.
RECENT = 32


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module or an activation.

    Attributes:
        name: unique within a forward pass.
        path: the module's path, or the activation's name; equal for all calls of the same module.
        callee: the Module, or the plain function.
        args, kwargs: its arguments.
        parents: names of the calls in which this one happens, the model's first.
    """

    name: str
    path: str
    callee: Any
    args: tuple
    kwargs: dict
    parents: tuple[str, ...]
    _run: Callable
    _watch: "_Watch"

    def proceed(self) -> Any:
        """Run what was called and return its result."""
        return self._run(*self.args, **self.kwargs)

    def makers(self, tensor: object) -> list[str]:
        """Return the paths of the latest calls that returned this very tensor, the innermost first."""
        return [path for path, output in self._watch.recent if output is tensor]

    @contextlib.contextmanager
    def unwatched(self) -> Iterator[None]:
        """Let calls made inside go by unseen."""
        self._watch.paused = True
        try:
            yield
        finally:
            self._watch.paused = False


class _Watch:
    """The interceptor of one forward pass."""

    def __init__(self, model: Module, handler: Callable[[Call], object]):
        self.paths = {id(module): path or "model" for path, module in model.named_modules().items()}
        self.handler, self.paused = handler, False
        self.counts, self.open = Counter(), []
        self.recent: deque[tuple[str, tf.Tensor]] = deque(maxlen=RECENT)

    def __call__(self, callee, run, *args, **kwargs):
        if self.paused:
            return run(*args, **kwargs)
        path = self._path(callee, args)
        self.counts[path] += 1
        name = path if self.counts[path] == 1 else f"{path} #{self.counts[path]}"
        call = Call(name, path, callee, args, kwargs, tuple(self.open), run, self)
        self.open.append(name)
        try:
            result = self.handler(call)
        finally:
            self.open.pop()
        self.recent += [(path, output) for output in outputs(result)]
        return result

    def _path(self, callee, args) -> str:
        if isinstance(callee, Module):
            return self.paths.get(id(callee), type(callee).__name__)
        source = next((path for path, output in reversed(self.recent) if args and output is args[0]), None)
        if source is None:  # of no call's output itself, such as a sum: named by where it happens
            source = f"in {self.open[-1]}" if self.open else ""
        return f"{callee.__name__}({source})"


@contextlib.contextmanager
def watch(model: Module, handler: Callable[[Call], object]) -> Iterator[None]:
    """Let every call inside `model` go through handler(call), whose result takes the place of the call's.

    A handler that only looks returns call.proceed(). Open it anew for each forward pass, so that names start anew.
    """
    with intercept(_Watch(model, handler)):
        yield


def outputs(result: object) -> list[tf.Tensor]:
    """Return the tensors of a call's result: one, or those of a tuple or list."""
    if tf.is_tensor(result):
        return [result]
    return [part for part in result if tf.is_tensor(part)] if isinstance(result, tuple | list) else []
