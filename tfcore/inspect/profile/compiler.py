"""What the compiler made of a training step: `inspect_step(step, *args)` for any tf.function.

    report = inspect_step(step, images, labels, number)
    for kernel in report.top("flops"):
        print(kernel)              # fusion.33: tfcore/ops/attention.py:88, blocks/3/attention, Softmax, backward

Nothing is run: the step is traced, if it was not, and compiled.
"""

import inspect
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tfcore.inspect.graph.origins import GraphOrigins
from tfcore.inspect.graph.tracing import find_uncompilable, trace_report
from tfcore.inspect.hlo import buffers
from tfcore.inspect.hlo import parser as hlo
from tfcore.inspect.hlo.kernels import find_kernels
from tfcore.inspect.hlo.stages import compare_stages
from tfcore.inspect.profile.step_report import StepReport, total_cost

# Operations of the graph that are no work.
_NOTHING = frozenset(["Placeholder", "Const", "NoOp", "Identity"])


def inspect_step(function, *args, **kwargs) -> StepReport:
    """Return what XLA makes of a tf.function for these arguments; one without jit_compile is compiled as if it had it.

    Raises:
        TypeError: for what is not a tf.function.
        ValueError: for a function with operations that XLA cannot compile, naming each with its layer and line.
    """
    if not hasattr(function, "experimental_get_compiler_ir"):
        raise TypeError(f"inspect_step takes a tf.function, got {function!r}: wrap it in tf.function")
    begin = time.perf_counter()
    inner, (function, args) = function, compilable(function, args, kwargs)
    concrete = function.get_concrete_function(*args)
    traced = time.perf_counter()
    origins = GraphOrigins(concrete)
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
    kernels = tuple(find_kernels(optimized, origins))
    graph = Counter(origin.layer for _, origin in origins.ops if origin.op_type not in _NOTHING)
    layers = Counter(kernel.layer for kernel in kernels)
    return StepReport(
        name=optimized.name,
        kernels=kernels,
        totals=total_cost(kernels),
        optimized=optimized,
        origins=origins,
        before_after=compare_stages((built, origins), (optimized, origins), kernels=layers, graph=graph),
        memory=buffers.estimate(optimized),
        built=built,
        tracing=trace_report(inner),
        trace_seconds=traced - begin,
        build_seconds=ready - found,
        compile_seconds=compiled - ready,
    )


def compilable(function, args: Sequence, kwargs: Mapping | None = None) -> tuple[Callable, tuple]:
    """Return a tf.function, traced, in the form in which inspect_step compiles it, with the arguments to call it with:
    jit-compiled, with no defaults, and keyword arguments that are tensors behind the others.
    """
    kwargs = kwargs or {}
    function.get_concrete_function(*args, **kwargs)  # outside, so that a wrapper finds it traced
    if function._jit_compile and not kwargs and not _has_defaults(function):
        return function, tuple(args)
    tensors = {name: value for name, value in kwargs.items() if _is_tensor(value)}
    others = {name: value for name, value in kwargs.items() if name not in tensors}
    count = len(args)

    def call(*inputs):
        return function(*inputs[:count], **dict(zip(tensors, inputs[count:], strict=True)), **others)

    return tf.function(call, jit_compile=True, autograph=False), (*args, *tensors.values())


def _is_tensor(value) -> bool:
    parts = tf.nest.flatten(value)
    return bool(parts) and all(tf.is_tensor(part) or hasattr(part, "__array__") for part in parts)


def _has_defaults(function) -> bool:
    """Whether arguments may be left out, which experimental_get_compiler_ir does not take."""
    parameters = inspect.signature(function.python_function).parameters.values()
    return any(parameter.default is not parameter.empty for parameter in parameters)
