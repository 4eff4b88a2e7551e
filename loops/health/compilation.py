"""Whether XLA can compile a step, known before the attempt: its own error names neither layer nor line."""

import tensorflow as tf

from tfcore.inspect.graph.tracing import uncompilable


def refusal_of_xla(step, *batch: tf.Tensor) -> str | None:
    """Return in one line which operation of a step XLA has no kernel for, in which layer, and what to use instead.

    None where it has all of them. `step`: a tf.function, which is traced with these arguments and not run; a call with
    them does not trace it again.
    """
    found = uncompilable(step, *batch)
    if not found:
        return None
    more = f" (and {len(found) - 1} more such operations)" if found[1:] else ""
    return f"XLA cannot compile {found[0]}{more}"
