"""Reports in plain text: what a model owns, layer by layer."""

import math
from collections import Counter

import tensorflow as tf

from tfcore.inspect.columns import aligned
from tfcore.module import Module


def count_parameters(model: Module) -> tuple[int, int]:
    """Return (all parameters, those that gradients update)."""
    return _count(model.named_variables()), _count(model.named_trainable_variables())


def parameter_table(model: Module) -> str:
    """Return a table of all variables, indented below the layers that own them.

    The names down the tree, joined by '/', are the variable's path. A layer's line sums up everything below it; the
    outermost lines also say which share of the model they are, so that these shares add up to 100 %. The last column
    says whether gradients update the variable: 'yes', 'no', and for a layer with both, how many of its parameters.
    """
    variables = model.named_variables()
    total, trained = count_parameters(model)
    counts, counts_trained = Counter(), Counter()  # of each layer, by its path as a tuple of names
    for path, variable in variables.items():
        names = _names(path)
        for depth in range(1, len(names) + 1):
            counts[names[:depth]] += math.prod(variable.shape)
            counts_trained[names[:depth]] += math.prod(variable.shape) if variable.trainable else 0

    rows = [(type(model).__name__, "shape", "parameters", "share", "trained")]
    open_layers: tuple[str, ...] = ()  # the layers whose lines stand above already
    for path, variable in variables.items():
        names = _names(path)
        for depth in range(1, len(names) + 1):
            here = names[:depth]
            if here == open_layers[:depth]:
                continue
            open_layers = here
            share = f"{100 * counts[here] / max(total, 1):.1f} %" if depth == 1 else ""
            shape = str(tuple(variable.shape)) if here == names else ""
            rows.append(
                (
                    "  " * (depth - 1) + here[-1],
                    shape,
                    f"{counts[here]:,}",
                    share,
                    _trained(here, counts, counts_trained),
                )
            )
    sums = [("total", total), ("trained", trained), ("not trained", total - trained)]
    rows += [(name, "", f"{count:,}", "", "") for name, count in sums]

    lines = aligned(rows, lambda column, cell: column in (2, 3))
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1 : -len(sums)], rule, *lines[-len(sums) :]])


def _count(variables: dict[str, tf.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables.values())


def _names(path: str) -> tuple[str, ...]:
    """'involutions/0/reduce/kernel' -> ('involutions/0', 'reduce', 'kernel'): a number alone would say nothing."""
    names: list[str] = []
    for name in path.split("/"):
        if name.isdigit() and names:
            names[-1] += f"/{name}"
        else:
            names.append(name)
    return tuple(names)


def _trained(layer: tuple[str, ...], counts: Counter, counts_trained: Counter) -> str:
    if counts_trained[layer] in (0, counts[layer]):
        return "yes" if counts_trained[layer] else "no"
    return f"{counts_trained[layer]:,} of {counts[layer]:,}"
