"""Where an instruction comes from: one type for all who can tell, and what they have in common.

`tfcore.inspect.graph.origins` reads it from TensorFlow's graph, `metadata_origins` from what stands in the HLO itself.
"""

import dataclasses
from typing import Protocol

from tfcore.inspect.hlo.module import Instruction

# The latest first: what computes forward values for a gradient belongs to the backward pass.
PHASES = ("update", "backward", "other", "forward")


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an operation comes from.

    `op_type`: the operation as its author called it, such as "Softmax" or "dot_general". `layer`: the module's path, or
    for the outermost module its name; for what stands outside of all modules, the Python function with brackets behind,
    such as 'cross_entropy_from_logits()'. `source`: 'file.py:line', the innermost line outside of installed packages;
    of a gradient in TensorFlow, the line of the operation whose gradient it is. '' where unknown.

    `phase`: "forward"; "backward"; "update", what depends on gradients without being one; "other", the rest. `again`:
    forward work that the backward pass does once more, on purpose.
    """

    op_type: str
    layer: str
    source: str
    phase: str
    again: bool = False


class Origins(Protocol):
    """Whoever can tell where the instructions of a module come from."""

    def of(self, item: Instruction, computation: str) -> tuple[Origin, ...]:
        """Return the origins of an instruction of a computation: several where the compiler merged it, () for none."""
        ...
