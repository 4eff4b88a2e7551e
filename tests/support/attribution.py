"""How much of a compiled step has a layer and a line, and the memory that XLA itself has assigned to it."""

from tensorflow.compiler.xla.service import hlo_pb2

from tfcore.inspect.hlo import buffers
from tfcore.inspect.hlo.kernels import Kernel
from tfcore.inspect.hlo.parser import parse
from tfcore.inspect.profile.step_report import StepReport


def shares(report: StepReport) -> dict[str, float]:
    """Which share of FLOPs and bytes, added, has a layer, a source line, and one of its own, no neighbour's.

    A layer is a module's path: what stands in a function outside of all modules, such as the loss, has none.
    """
    kernels = report.kernels
    total = max(sum(map(_work, kernels)), 1)
    chosen = {
        "layer": [kernel for kernel in kernels if kernel.layer and not kernel.layer.endswith("()")],
        "source": [kernel for kernel in kernels if kernel.source],
        "not inferred": [kernel for kernel in kernels if kernel.source and not kernel.inferred],
    }
    return {name: sum(map(_work, found)) / total for name, found in chosen.items()}


def assigned_memory(step, *args) -> buffers.Memory:
    """The memory of XLA's buffer assignment, from one more compilation of a jit-compiled step."""
    stages = step.experimental_get_compiler_ir(*args)
    proto = hlo_pb2.HloProto.FromString(stages(stage="optimized_hlo_proto_serialized"))
    return buffers.from_assignment(buffers.allocations_of_proto(proto), parse(stages(stage="optimized_hlo")))


def _work(kernel: Kernel) -> int:
    return kernel.flops + kernel.transcendentals + kernel.bytes
