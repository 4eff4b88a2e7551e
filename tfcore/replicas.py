"""Which part of a batch is computed here, where several replicas of a model divide it among them.

A replica sees its own examples alone. What must not depend on how the batch was divided asks for the replica's share:
random bits, which belong to an example and not to its place in a share (`tfcore.random.bits`), and, if the replicas
synchronize it, the mean over a batch (`batch_mean`). Outside of `share_of_batch` all examples are here.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

_thread = threading.local()  # replicas on the devices of one process are traced in threads of their own


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
    outer = current()
    _thread.share = share
    try:
        yield
    finally:
        _thread.share = outer


def current() -> Share | None:
    """Return the share that is being computed in this thread, or None where the whole batch is."""
    return getattr(_thread, "share", None)


def batch_mean(x: tf.Tensor, axis: list[int]) -> tf.Tensor:
    """Mean over axes of which one is the examples: of the replica's own ones, or of all where they synchronize."""
    mean, share = tf.reduce_mean(x, axis=axis), current()
    return mean if share is None or share.sum is None else share.sum(mean * share.weight)
