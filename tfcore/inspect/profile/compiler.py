"""What the compiler made of a training step: `inspect_step(step, *args)` for any tf.function.

    report = inspect_step(step, images, labels, number)
    for kernel in report.top("flops"):
        print(kernel)              # fusion.33: tfcore/ops/attention.py:88, blocks/3/attention, Softmax, backward

Nothing is run: the step is traced, if it was not, and compiled.
"""

import dataclasses
import inspect
import time
from collections import Counter

import tensorflow as tf

from tfcore.inspect.graph.origins import Origins
from tfcore.inspect.graph.tracing import TraceReport, find_uncompilable, trace_report
from tfcore.inspect.hlo import buffers
from tfcore.inspect.hlo import parser as hlo
from tfcore.inspect.hlo.cost import Cost
from tfcore.inspect.hlo.kernels import Kernel, find_kernels
from tfcore.inspect.hlo.stages import Stages, compare_stages


@dataclasses.dataclass(frozen=True)
class StepReport:
    """One compiled step, taken apart.

    `kernels` in the order in which they run; `totals` their sum, of one step; `trace_seconds` of the graph (near 0 for
    a function that was traced before), `build_seconds` from the graph to HLO, `compile_seconds` all of XLA, which
    builds the HLO once more.
    """

    name: str
    kernels: tuple[Kernel, ...]
    totals: Cost
    before_after: Stages
    memory: buffers.Memory
    tracing: TraceReport
    trace_seconds: float
    build_seconds: float
    compile_seconds: float
    optimized: hlo.Module
    built: hlo.Module

    def top(self, field: str = "bytes", count: int = 10) -> list[Kernel]:
        """Return the kernels with the most of a field: flops, transcendentals, integer_ops, bytes."""
        return sorted(self.kernels, key=lambda kernel: -getattr(kernel, field))[:count]

    def shares(self) -> dict[str, float]:
        """Return which share of FLOPs and bytes, added, has a layer, a source line, and one of its own, no neighbour's.

        A layer is a module's path: what stands in a function outside of all modules, such as the loss, has none.
        """
        kernels = self.kernels
        total = max(sum(_weight(kernel) for kernel in kernels), 1)
        chosen = {
            "layer": [kernel for kernel in kernels if kernel.layer and not kernel.layer.endswith("()")],
            "layer or function": [kernel for kernel in kernels if kernel.layer],
            "source": [kernel for kernel in kernels if kernel.source],
            "not inferred": [kernel for kernel in kernels if kernel.source and not kernel.inferred],
        }
        return {name: sum(_weight(kernel) for kernel in found) / total for name, found in chosen.items()}

    def by_layer(self, field: str = "bytes") -> dict[str, int]:
        """Return a field's sum by layer, the largest first."""
        sums = Counter()
        for kernel in self.kernels:
            sums[kernel.layer] += getattr(kernel, field)
        return dict(sums.most_common())


def inspect_step(function, *args, assignment: bool = False) -> StepReport:
    """Return what XLA makes of a tf.function for these arguments; one without jit_compile is compiled as if it had it.

    `assignment`: take memory from XLA's buffer assignment, which costs a second compilation, and not an estimate.

    Raises:
        TypeError: for what is not a tf.function.
        ValueError: for a function with operations that XLA cannot compile, naming each with its layer and line; from
            `assignment` under a TensorFlow that does not give it.
    """
    if not hasattr(function, "experimental_get_compiler_ir"):
        raise TypeError(f"inspect_step takes a tf.function, got {function!r}: wrap it in tf.function")
    begin = time.perf_counter()
    inner, function = function, compilable(function, *args)
    concrete = function.get_concrete_function(*args)
    traced = time.perf_counter()
    origins = Origins(concrete)
    refused = find_uncompilable(origins)
    if refused:
        raise ValueError(f"XLA cannot compile {'; '.join(dict.fromkeys(map(str, refused)))}")
    stages = function.experimental_get_compiler_ir(*args)
    found = time.perf_counter()
    built = hlo.parse(stages(stage="hlo"))
    ready = time.perf_counter()
    text = stages(stage="optimized_hlo")
    compiled = time.perf_counter()
    optimized = hlo.parse(text)
    kernels = find_kernels(optimized, origins)
    return StepReport(
        name=optimized.name,
        kernels=tuple(kernels),
        totals=sum((_cost(kernel) for kernel in kernels), Cost()),
        before_after=compare_stages(built, optimized, origins, [kernel.layer for kernel in kernels]),
        memory=_memory(stages, optimized, assignment),
        tracing=trace_report(inner),
        trace_seconds=traced - begin,
        build_seconds=ready - found,
        compile_seconds=compiled - ready,
        optimized=optimized,
        built=built,
    )


def compilable(function, *args):
    """Return a tf.function, traced, in the form in which inspect_step compiles it: jit-compiled, with no defaults."""
    function.get_concrete_function(*args)  # outside, so that a wrapper finds it traced
    if function._jit_compile and not _has_defaults(function):
        return function
    return tf.function(lambda *inputs: function(*inputs), jit_compile=True, autograph=False)


def _has_defaults(function) -> bool:
    """Whether arguments may be left out, which experimental_get_compiler_ir does not take."""
    parameters = inspect.signature(function.python_function).parameters.values()
    return any(parameter.default is not parameter.empty for parameter in parameters)


def _memory(stages, optimized: hlo.Module, assignment: bool) -> buffers.Memory:
    if not assignment:
        return buffers.estimate(optimized)
    return buffers.from_assignment(stages(stage="optimized_hlo_proto_serialized"))


def _cost(kernel: Kernel) -> Cost:
    return Cost(**{field.name: getattr(kernel, field.name) for field in dataclasses.fields(Cost)})


def _weight(kernel: Kernel) -> int:
    return kernel.flops + kernel.transcendentals + kernel.bytes
