"""The base of everything that owns variables: layers, models, optimizers, the loss scale."""

from collections.abc import Iterator

import tensorflow as tf


class Module(tf.Module):
    """A tf.Module whose variables can be listed by path, in the order in which they were made.

    Paths are attribute names joined by '/', such as 'involutions/0/reduce/kernel'. They name weights in checkpoints,
    parameter tables, reports and comparisons.
    """

    def named_variables(self) -> dict[str, tf.Variable]:
        """Return all variables by path."""
        return dict(_walk(self, ""))

    def named_trainable_variables(self) -> dict[str, tf.Variable]:
        """Return the variables that gradients update, by path."""
        return {path: variable for path, variable in self.named_variables().items() if variable.trainable}


def _walk(value, path: str) -> Iterator[tuple[str, tf.Variable]]:
    if isinstance(value, tf.Variable):
        yield path, value
        return
    if isinstance(value, Module):
        # Names with an underscore are tf.Module's own bookkeeping.
        children = ((name, child) for name, child in vars(value).items() if not name.startswith("_"))
    elif isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list | tuple):
        children = enumerate(value)
    else:
        return
    for name, child in children:
        yield from _walk(child, f"{path}/{name}" if path else str(name))
