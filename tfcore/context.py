"""All that is ambient: what a call can depend on besides its arguments stands in this one module.

Three things, each set by a `with` and nowhere else; outside of them the house computes from arguments alone, and from
whether there is a GPU (`is_gpu`).

- who watches calls (`intercept`): the audit sees what every layer gives without a line of its own in them;
- which part of a batch is here (`share_of_batch`): replicas divide a batch, and random bits belong to an example, not
  to its place in a share;
- for whom a graph is traced (`for_xla`): some formulations suit XLA and are slow in TensorFlow's own executor, and a
  function that is being traced cannot see which of them will run it. Whoever compiles it says so (`loops/steps.py`).
"""

import contextlib
import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

# function(callee, call, *args, **kwargs) -> result; callee: the Module, or the plain function; call: runs it.
Interceptor = Callable[..., object]

# Each with the thread that alone sees it, None for all: where replicas divide a batch, their threads take turns in the
# middle of a layer, and what one of them opens is not for another's calls.
_interceptors: list[tuple[Interceptor, int | None]] = []
_thread = (
    threading.local()
)  # .share, .numbers: replicas on the devices of one process are traced in threads of their own


@contextlib.contextmanager
def intercept(function: Interceptor) -> Iterator[None]:
    """Let every call of a Module or an activation go through function(callee, call, *args, **kwargs).

    call(*args, **kwargs) runs what was called; the function may look at arguments and result, or return something else.
    Opened while a share of a batch is computed it sees that replica's calls alone, else those of all threads. Of
    several open interceptors the latest is the outermost. In a `tf.function` it sees symbolic tensors, once, while the
    function is traced. Outside, a call costs one look at an empty list.
    """
    opened = (function, None if current_share() is None else threading.get_ident())
    _interceptors.append(opened)
    try:
        yield
    finally:
        _interceptors.remove(opened)


def interceptable(function: Callable) -> Callable:
    """Make calls of a plain function interceptable; the function itself, unwrapped, is the callee."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return through_interceptors(function, function, args, kwargs)

    return wrapped


def through_interceptors(callee: object, call: Callable, args: tuple, kwargs: dict):
    """Return call(*args, **kwargs), handed through the open interceptors as a call of `callee`."""
    for interceptor, thread in _interceptors:
        if thread not in (None, threading.get_ident()):
            continue
        call = functools.partial(interceptor, callee, call)
    return call(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class Share:
    """Examples start .. start + size − 1 of a batch of `total`.

    sum: adds up a tensor over all replicas, with its gradient; None: the replicas do not synchronize batch statistics.
    """

    start: int
    size: int
    total: int
    sum: Callable[[tf.Tensor], tf.Tensor] | None = None

    @property
    def weight(self) -> float:
        """The share's part in a mean over the batch."""
        return self.size / self.total


@contextlib.contextmanager
def share_of_batch(share: Share | None) -> Iterator[None]:
    """Let what runs, or is traced, inside know that it sees a share of the batch."""
    outer = current_share()
    _thread.share = share
    try:
        yield
    finally:
        _thread.share = outer


def current_share() -> Share | None:
    """Return the share that is being computed in this thread, or None where the whole batch is."""
    return getattr(_thread, "share", None)


def part_of_mean(mean: tf.Tensor) -> tf.Tensor:
    """Return what the examples that are here add to a mean over the batch, given their own mean: all of it, or less."""
    share = current_share()
    return mean if share is None else mean * share.weight


def batch_mean(x: tf.Tensor, axis: list[int]) -> tf.Tensor:
    """Mean over axes of which one is the examples: of the replica's own ones, or of all where they synchronize."""
    mean, share = tf.reduce_mean(x, axis=axis), current_share()
    return mean if share is None or share.sum is None else share.sum(part_of_mean(mean))


@contextlib.contextmanager
def for_xla() -> Iterator[None]:
    """Let what is traced inside choose formulations that XLA compiles well."""
    outer = getattr(_thread, "numbers", None)
    _thread.numbers = itertools.count(1)
    try:
        yield
    finally:
        _thread.numbers = outer


def is_xla() -> bool:
    """Return whether XLA will compile what is being traced, as far as anyone has said."""
    return getattr(_thread, "numbers", None) is not None


def is_gpu() -> bool:
    """Return whether TensorFlow sees a GPU, on which it then computes."""
    return bool(tf.config.list_logical_devices("GPU"))


def number() -> int:
    """Return 1, 2, 3 ... inside of one `for_xla`: for operations of which no two shall be the same to XLA."""
    return next(_thread.numbers)
