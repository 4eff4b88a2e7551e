"""A step taken apart and timed: the compiler's kernels with their microseconds and their places on the roofline.

profile = profile_step(step, images, labels, number)
print(text_report(profile, "my step"))        # tfcore.inspect.pages.kernel_report
html_report(profile, "my step")               # tfcore.inspect.pages.kernel_page
"""

import dataclasses
import functools
from collections.abc import Callable

from tfcore.inspect.graph.origins import GraphOrigins
from tfcore.inspect.graph.tracing import TraceReport, Uncompilable, find_uncompilable, trace_report
from tfcore.inspect.hlo.kernels import Kernel
from tfcore.inspect.hlo.origins import Origin
from tfcore.inspect.profile.compiler import inspect_step
from tfcore.inspect.profile.notebook import notebook_html
from tfcore.inspect.profile.roofline import DTYPES, TOO_FAST, Ceilings, Place, measure_ceilings, place
from tfcore.inspect.profile.step_report import StepReport
from tfcore.inspect.profile.timing import Timing, measure_kernels, measure_ops


@dataclasses.dataclass(frozen=True)
class Group:
    """Sums over the kernels of a layer, of a phase or of a bound; `us` is None where no time was taken."""

    name: str
    kernels: int
    us: float | None
    flops: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class StepProfile:
    """What there is to say of a step.

    Compiled: `report` is the compiler's and `kernels` are its kernels. In graph mode `report` is None and `kernels` are
    TensorFlow's operations, whose `opcode` is their type and whose work nobody counts; `refused` names those that XLA
    could not compile. `timing` and `ceilings` are None where nothing was run.
    """

    kernels: tuple[Kernel, ...]
    report: StepReport | None
    tracing: TraceReport | None
    refused: tuple[Uncompilable, ...]
    timing: Timing | None
    ceilings: Ceilings | None
    note: str = ""  # what is to be said of the ceilings; "" where there is nothing

    def us(self, kernel: Kernel) -> float | None:
        """Return the microseconds of a kernel in a step; None where no time was taken or the profiler saw none."""
        return None if self.timing is None else self.timing.us.get(kernel.name)

    def _repr_html_(self) -> str:
        """Show the step in a notebook."""
        step_us = None if self.timing is None else self.timing.step_us or self.timing.profiled_us
        totals, memory = (None, None) if self.report is None else (self.report.totals, self.report.memory)
        return notebook_html(self.kernels, totals, memory, self.us, step_us)

    @functools.cached_property
    def places(self) -> dict[str, Place]:
        """The places on the roofline, by kernel; those without a time have none."""
        if self.ceilings is None or self.timing is None:
            return {}
        timed = [kernel for kernel in self.kernels if kernel.name in self.timing.us]
        found = {kernel.name: place(kernel, self.timing.us[kernel.name], self.ceilings) for kernel in timed}
        return {name: where for name, where in found.items() if where is not None}

    @functools.cached_property
    def kernel_us(self) -> float:
        """The microseconds of all kernels together; those that run side by side count each."""
        return sum(self.us(kernel) or 0.0 for kernel in self.kernels)

    def above_ceilings(self) -> tuple[Kernel, Place] | None:
        """Return the kernel furthest above a ceiling, and its place; None where none is by more than TOO_FAST."""
        above = [kernel for kernel in self.kernels if self._fraction(kernel) > TOO_FAST]
        kernel = max(above, key=self._fraction, default=None)
        return None if kernel is None else (kernel, self.places[kernel.name])

    def _fraction(self, kernel: Kernel) -> float:
        where = self.places.get(kernel.name)
        return where.fraction if where is not None else 0.0

    def ranked(self) -> list[Kernel]:
        """Return the kernels by time, the longest first, or without times by the bytes that they move."""
        return sorted(self.kernels, key=lambda kernel: (-(self.us(kernel) or 0.0), -kernel.bytes, -kernel.flops))

    def groups(self, key: Callable[[Kernel], str]) -> list[Group]:
        """Return the sums over the kernels with the same key, in the order of `ranked`."""
        members: dict[str, list[Kernel]] = {}
        for kernel in self.kernels:
            members.setdefault(key(kernel), []).append(kernel)
        found = [
            Group(
                name,
                len(kernels),
                None if self.timing is None else sum(self.us(kernel) or 0.0 for kernel in kernels),
                sum(kernel.flops for kernel in kernels),
                sum(kernel.bytes for kernel in kernels),
            )
            for name, kernels in members.items()
        ]
        return sorted(found, key=lambda group: (-(group.us or 0.0), -group.bytes, -group.flops))

    def to_json(self) -> list[dict]:
        """Return the kernels as JSON takes them; what was not measured is None, and all counts of graph mode are.

        `counted` is false where a part of the work has no formula: the counts are of the rest.
        """
        return [self._entry(kernel) for kernel in self.kernels]

    def _entry(self, kernel: Kernel) -> dict:
        where = self.places.get(kernel.name)
        counted = self.report is not None
        return {
            "name": kernel.name,
            "kind": kernel.opcode,
            "layer": kernel.layer,
            "source": kernel.source,
            "phase": kernel.phase,
            "operation": kernel.op_type,
            "flops": kernel.flops if counted else None,
            "transcendentals": kernel.transcendentals if counted else None,
            "integer_ops": kernel.integer_ops if counted else None,
            "bytes": kernel.bytes if counted else None,
            "bytes_read": kernel.bytes_read if counted else None,
            "bytes_written": kernel.bytes_written if counted else None,
            "us": self.us(kernel),
            "fraction": where and where.fraction,
            "bound": where and where.bound,
            "shape": kernel.shape,
            "operands": list(kernel.operands),
            "runs": kernel.runs,
            "comparisons": kernel.comparisons if counted else None,
            "bytes_sent": kernel.bytes_sent if counted else None,
            "counted": kernel.counted,
            "branch": str(kernel.branch or ""),
            "inferred": kernel.inferred,
            "fused": list(kernel.fused_ops),
            "why_alone": kernel.why_alone,
        }


def profile_step(function, *args, steps: int = 20, **kwargs) -> StepProfile:
    """Return a compiled tf.function (jit_compile=True) taken apart, run `steps` times under the profiler; 0: not run.

    Running does to variables what the function does. What the compiler does not know, how often a loop runs and which
    branch of a condition, is counted as the profiler saw it.

    Raises:
        TypeError, ValueError: as `inspect_step` and `measure_kernels` do.
    """
    report = inspect_step(function, *args, **kwargs)
    timing = ceilings = None
    if steps:
        timing = measure_kernels(function, args, report.kernels, kwargs=kwargs, steps=steps)
        report = report.recounted(timing.runs)
        shapes = [shape for kernel in report.kernels for shape in (kernel.shape, *kernel.operands)]
        found = {
            name for short, name in DTYPES.items() if any(shape.lstrip("(").startswith(f"{short}[") for shape in shapes)
        }
        ceilings = measure_ceilings(sorted(found | {"float32"}))
    return with_sound_ceilings(StepProfile(report.kernels, report, report.tracing, (), timing, ceilings))


def with_sound_ceilings(profile: StepProfile) -> StepProfile:
    """Return the profile with its ceilings measured again, once, where a kernel came out above one of them."""
    above = profile.above_ceilings()
    if above is None or profile.ceilings is None:
        return profile
    first = f"{above[0].name} came out at {above[1].fraction:.0%} of one"
    again = profile.ceilings.higher(measure_ceilings(sorted(profile.ceilings.flops_per_second)))
    profile = dataclasses.replace(profile, ceilings=again)
    above = profile.above_ceilings()
    note = f"the machine was busy while they were taken: {first}; they were measured again"
    if above is not None:
        note = f"{first}, and after they were measured again {above[0].name} at {above[1].fraction:.0%}"
        note += ": the machine was busy while they were taken, both times, or its data lie in a cache"
    return dataclasses.replace(profile, note=note)


def profile_graph(function, *args, steps: int = 20) -> StepProfile:
    """Return a tf.function that is not compiled, its operations timed in TensorFlow's own executor; 0 steps: not run.

    Of the operations those are listed that ran, or all where nothing is run. XLA is asked nothing, so that functions
    which it refuses can be looked at, too.
    """
    origins = GraphOrigins(function.get_concrete_function(*args))
    found = origins.ops
    timing = None
    if steps:
        timing = measure_ops(function, args, steps=steps)
        found = [(name, origins.find(name) or Origin("", "", "", "other")) for name in timing.us]
    kernels = tuple(_operation(name, origin) for name, origin in found)
    return StepProfile(kernels, None, trace_report(function), find_uncompilable(origins), timing, None)


def _operation(name: str, origin: Origin) -> Kernel:
    """An operation of the graph as a kernel of which nothing is counted."""
    return Kernel(
        name=name,
        opcode=origin.op_type,
        shape="",
        operands=(),
        layer=origin.layer,
        source=origin.source,
        phase=origin.phase,
        op_type=origin.op_type,
        inferred=False,
        flops=0,
        transcendentals=0,
        integer_ops=0,
        bytes_read=0,
        bytes_written=0,
        counted=False,
        flops_again=0,
        runs=1,
        fused_ops=(),
        origins=(origin,),
        why_alone="",
    )
