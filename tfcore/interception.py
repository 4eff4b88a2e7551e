"""Watching and changing calls from outside: the audit sees what every layer gives without a line of its own in them.

While `intercept(function)` is open, each call of a `Module` or of an activation goes through `function`, which may look
at its arguments and its result, or return something else. Outside, a call costs one look at an empty list. In a
`tf.function` the interceptor sees symbolic tensors, once, while the function is traced.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator

# function(callee, call, *args, **kwargs) -> result; callee: the Module, or the plain function; call: runs it.
Interceptor = Callable[..., object]

_interceptors: list[Interceptor] = []


@contextlib.contextmanager
def intercept(function: Interceptor) -> Iterator[None]:
    """Let every call of a Module or an activation go through function(callee, call, *args, **kwargs).

    call(*args, **kwargs) runs what was called. Of several open interceptors the latest is the outermost.
    """
    _interceptors.append(function)
    try:
        yield
    finally:
        _interceptors.remove(function)


def interceptable_method(method: Callable) -> Callable:
    """Make calls of a method interceptable; the object is the callee."""

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        if not _interceptors:
            return method(self, *args, **kwargs)
        return _through(self, functools.partial(method, self), args, kwargs)

    return wrapped


def interceptable(function: Callable) -> Callable:
    """Make calls of a plain function interceptable; the function itself, unwrapped, is the callee."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        if not _interceptors:
            return function(*args, **kwargs)
        return _through(function, function, args, kwargs)

    return wrapped


def _through(callee, call: Callable, args: tuple, kwargs: dict):
    for interceptor in _interceptors:
        call = functools.partial(interceptor, callee, call)
    return call(*args, **kwargs)
