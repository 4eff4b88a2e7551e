"""How often a tf.function was traced and why, and what in it XLA cannot compile, found before the attempt."""

import dataclasses

import tensorflow as tf
from tensorflow.python.util import pywrap_xla_ops

from tfcore.inspect.graph.origins import GraphOrigins

# Operations that are no work: XLA's bridge takes them out.
_REMOVED = frozenset(["Placeholder", "PlaceholderWithDefault"])
# What this project does in the place of an operation that XLA does not know, by the beginning of its type.
REWRITES = {
    "ImageProjectiveTransform": "gather and bilinear weights: tfcore.ops.resampling.warp",
    "CropAndResize": "gather and bilinear weights: tfcore.ops.resampling.warp",
    "ScaleAndTranslate": "gather and bilinear weights: tfcore.ops.resampling.warp",
    "ResizeBicubic": "bilinear: tfcore.ops.resampling.resize",
    "ResizeArea": "bilinear: tfcore.ops.resampling.resize, or a mean over blocks: tfcore.ops.pooling",
    "ResizeNearestNeighborGrad": "bilinear: tfcore.ops.resampling.resize, whose gradient compiles",
    "StatelessShuffle": "shuffle outside of the step (loops.data.pipeline), or sort random bits: tfcore.random.bits",
    "Decode": "decode outside of the step, in the input pipeline",
    "PyFunc": "TensorFlow operations, or a call outside of the step",
    "EagerPyFunc": "TensorFlow operations, or a call outside of the step",
    "Print": "return the value and print it outside of the step",
    "String": "text outside of the step",
    "IteratorGetNext": "take the batch outside and hand its tensors to the step",
}


@dataclasses.dataclass(frozen=True)
class Trace:
    """One trace: the signature by argument, and what differs from the trace before; () for the first one."""

    signature: dict[str, str]
    changes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TraceReport:
    """`count` traces, TensorFlow's own number: it may be more than the `traces` that are kept with their signature.

    A function that makes variables is traced twice for its first signature.
    """

    count: int
    traces: tuple[Trace, ...]


@dataclasses.dataclass(frozen=True)
class Uncompilable:
    """An operation that XLA cannot compile, with its layer, line and phase, and the `rewrite` to use instead, or ''."""

    op_name: str
    op_type: str
    layer: str
    source: str
    phase: str
    rewrite: str

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.source, self.layer, self.phase) if part)
        return f"{self.op_type} ({place})" + (f": instead {self.rewrite}" if self.rewrite else "")


def trace_report(function) -> TraceReport:
    """Return how often a tf.function has been traced, with which signatures, and what changed from one to the next."""
    traces, before = [], None
    for concrete in function._list_all_concrete_functions():  # TensorFlow has no public list
        arguments, keywords = concrete.structured_input_signature
        names = [f"argument {place}" for place in range(1, len(arguments) + 1)] + [
            f"argument {name}" for name in keywords
        ]
        values = (*arguments, *keywords.values())
        signature = {name: _text(value) for name, value in zip(names, values, strict=True)}
        traces.append(Trace(signature, () if before is None else _changes(before, signature)))
        before = signature
    return TraceReport(function.experimental_get_tracing_count(), tuple(traces))


def _changes(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    names = dict.fromkeys((*before, *after))
    pairs = ((name, before.get(name, "absent"), after.get(name, "absent")) for name in names)
    return tuple(f"{name}: {old} -> {new}" for name, old, new in pairs if old != new)


def _text(value) -> str:
    """A tensor as float32[5,7], what is nested item by item, anything else as Python prints it."""
    if isinstance(value, tf.TensorSpec):
        sizes = (
            "?" if value.shape.rank is None else ",".join("?" if size is None else str(size) for size in value.shape)
        )
        return f"{value.dtype.name}[{sizes}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_text, value))})"
    return repr(value)


def uncompilable(function, *args) -> tuple[Uncompilable, ...]:
    """Return the operations of a tf.function, traced with `args`, that XLA has no kernel for on this machine's device.

    From TensorFlow's own list of kernels. What XLA knows but refuses for its sizes is found only by compiling.
    """
    return find_uncompilable(GraphOrigins(function.get_concrete_function(*args)))


def find_uncompilable(origins: GraphOrigins) -> tuple[Uncompilable, ...]:
    """Return the operations that XLA has no kernel for among those of a traced function."""
    names = pywrap_xla_ops.get_gpu_kernel_names if tf.config.list_physical_devices("GPU") else None
    known = {*(names or pywrap_xla_ops.get_cpu_kernel_names)(), *_REMOVED}
    return tuple(
        Uncompilable(name, origin.op_type, origin.layer, origin.source, origin.phase, _rewrite(origin.op_type))
        for name, origin in origins.ops
        if origin.op_type not in known
    )


def _rewrite(op_type: str) -> str:
    return next((text for start, text in REWRITES.items() if op_type.startswith(start)), "")
