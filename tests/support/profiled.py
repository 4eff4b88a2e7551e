"""Profiles of steps with times that were made up, for the tests of reports and pages."""

import dataclasses

import tensorflow as tf

from tests.support.planted import Planted, jit
from tfcore.inspect.graph.tracing import TraceReport
from tfcore.inspect.hlo import parser as hlo
from tfcore.inspect.hlo.kernels import Kernel
from tfcore.inspect.hlo.origins import Origin
from tfcore.inspect.profile.compiler import inspect_step
from tfcore.inspect.profile.roofline import Ceilings
from tfcore.inspect.profile.step_profile import StepProfile
from tfcore.inspect.profile.timing import Timing

CEILINGS = Ceilings({"float32": 2e9}, 1e9, "made up")  # 2,000 FLOP or 1,000 bytes a microsecond
EMPTY = """HloModule empty, is_scheduled=true

ENTRY %main (x: f32[7]) -> f32[7] {
  ROOT %x = f32[7]{0} parameter(0)
}
"""


def kernel(name: str, **changes) -> Kernel:
    """A fusion in a layer's forward pass that neither computes nor moves anything, but for what is changed."""
    nothing = ("flops", "transcendentals", "integer_ops", "bytes_read", "bytes_written", "flops_again")
    usual = {
        "opcode": "fusion",
        "shape": "f32[7]{0}",
        "operands": ("f32[7]{0}",),
        "layer": "parts/0",
        "source": "tests/support/planted.py:24",
        "phase": "forward",
        "op_type": "Mul",
        "inferred": False,
        "counted": True,
        "runs": 1,
        "fused_ops": (),
        "origins": (Origin("Mul", "parts/0", "tests/support/planted.py:24", "forward"),),
        "why_alone": "",
    }
    return Kernel(name=name, **{**dict.fromkeys(nothing, 0), **usual, **changes})


def timing(us: dict[str, float], **changes) -> Timing:
    """Times of kernels in a step of which they fill nine tenths."""
    busy = sum(us.values())
    usual = {"step_us": busy, "profiled_us": busy / 0.9, "busy_us": busy, "unattributed": (), "idle_us": busy / 9}
    return Timing(us=us, **{**usual, "threads": 1, "steps": 3, **changes})


def profile(kernels, us: dict[str, float], **changes) -> StepProfile:
    """A compiled step with these kernels, which read nothing of each other, and their times."""
    report = inspect_step(jit(Planted()), tf.ones([5, 7]))
    report = dataclasses.replace(report, kernels=tuple(kernels), optimized=hlo.parse(EMPTY))
    return StepProfile(tuple(kernels), report, TraceReport(1, ()), (), timing(us, **changes), CEILINGS)
