"""A compiled step taken apart: its kernels, what they add up to, its memory, what became of what was written."""

import dataclasses
from collections import Counter
from collections.abc import Mapping

from tfcore.inspect.graph.tracing import TraceReport
from tfcore.inspect.hlo.buffers import Memory
from tfcore.inspect.hlo.cost import Cost
from tfcore.inspect.hlo.kernels import Kernel, find_kernels
from tfcore.inspect.hlo.module import HloModule
from tfcore.inspect.hlo.origins import Origins
from tfcore.inspect.hlo.stages import Stages
from tfcore.inspect.profile.notebook import notebook_html


@dataclasses.dataclass(frozen=True)
class StepReport:
    """One compiled step, taken apart.

    `kernels` in the order in which they run; `totals` their sum, of one step, on one device where the module is divided
    among several. What nothing is known of is None: `before_after` and `built` without the HLO as built, `memory`
    without a schedule, `tracing` and the seconds where another program has compiled it. `trace_seconds` of the graph
    (near 0 for a function that was traced before), `build_seconds` from the graph to HLO, `compile_seconds` all of XLA,
    which builds the HLO once more.
    """

    name: str
    kernels: tuple[Kernel, ...]
    totals: Cost
    optimized: HloModule
    origins: Origins = dataclasses.field(repr=False)
    before_after: Stages | None = None
    memory: Memory | None = None
    built: HloModule | None = None
    tracing: TraceReport | None = None
    trace_seconds: float | None = None
    build_seconds: float | None = None
    compile_seconds: float | None = None

    def _repr_html_(self) -> str:
        """Show the step in a notebook."""
        return notebook_html(self.kernels, self.totals, self.memory, lambda kernel: None, None)

    def top(self, field: str = "bytes", count: int = 10) -> list[Kernel]:
        """Return the kernels with the most of a field: flops, transcendentals, integer_ops, bytes."""
        return sorted(self.kernels, key=lambda kernel: -getattr(kernel, field))[:count]

    def by_layer(self, field: str = "bytes") -> dict[str, int]:
        """Return a field's sum by layer, the largest first."""
        sums: Counter[str] = Counter()
        for kernel in self.kernels:
            sums[kernel.layer] += getattr(kernel, field)
        return dict(sums.most_common())

    def recounted(self, seen: Mapping[str, int]) -> "StepReport":
        """Return the report with the runs that a profiler saw, where the compiler does not know loops and branches."""
        if all(kernel.runs is not None and kernel.branch is None for kernel in self.kernels):
            return self
        kernels = tuple(find_kernels(self.optimized, self.origins, seen))
        return dataclasses.replace(self, kernels=kernels, totals=total_cost(kernels))


def total_cost(kernels: tuple[Kernel, ...]) -> Cost:
    """Return the sum of the kernels' counts."""
    fields = [field.name for field in dataclasses.fields(Cost)]
    return sum((Cost(**{name: getattr(kernel, name) for name in fields}) for kernel in kernels), Cost())
