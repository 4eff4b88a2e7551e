"""Time of each kernel of a step, from TensorFlow's own profiler, joined to the kernels by name.

    report = inspect_step(step, images, labels, number)
    timing = measure_kernels(step, (images, labels, number), report.kernels)
    timing.us["fusion.33"]        # microseconds a step

The profiler's events are read by `tfcore.inspect.profile.xplane`, which tells what it records on CPU and on GPU.
"""

import bisect
import contextlib
import dataclasses
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from tfcore.inspect.hlo.kernels import Kernel
from tfcore.inspect.profile.compiler import compilable
from tfcore.inspect.profile.xplane import Event, executable_events, marked, operation_events

STEP = "tfcore step"  # what a recorded step is called in the trace

Intervals = list[tuple[float, float]]  # (begin, end) in microseconds

# Operations that only run others.
_CALLERS = re.compile(r"(Stateless)?(While|If|Case)|.*PartitionedCall|XlaLaunch")


@dataclasses.dataclass(frozen=True)
class Timing:
    """Times of one step in microseconds, medians over the recorded steps.

    `us`: for each kernel (or operation) that was recorded the time from its start to its end, summed over its runs.
    Kernels that run at once are charged the whole of it each, with what they wait for threads: the sum may exceed the
    step. On a machine that others use, too, it may fall far below `busy_us`: what delays a kernel in few of the steps
    is in that sum's median and not in the kernel's. `step_us`: wall time of a step without the profiler,
    None where it never ran so; `profiled_us`: under it, in which all others were taken.

    `profiled_us` = `busy_us` + the sum of `unattributed` + `idle_us`, but for medians being taken of each: `busy_us`,
    when at least one kernel ran; `unattributed`, when something else of the executable did and no kernel (name and
    time, the largest first): what a loop takes beside its body, conditions, names that fit none; `idle_us`, when
    nothing of the executable ran: TensorFlow's call, the launch, waiting, what the step does on the host.

    `runs`: how often each kernel ran in a step, the upper median. `threads` is the number of threads, or a GPU's
    streams, from which kernels were started, over all steps.
    """

    us: dict[str, float]
    step_us: float | None
    profiled_us: float
    busy_us: float
    unattributed: tuple[tuple[str, float], ...]
    idle_us: float
    threads: int
    steps: int
    runs: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def coverage(self) -> float:
        """The share of the profiled step in which a kernel ran."""
        return self.busy_us / self.profiled_us


def measure_kernels(
    step, args: Sequence, kernels: Sequence[Kernel], *, kwargs: Mapping | None = None, steps: int = 20
) -> Timing:
    """Return the times of the kernels of a tf.function, which runs 2·`steps` + 4 times, and updates what it updates.

    `kernels` are those of `inspect_step(step, *args)`; as there, a function without jit_compile is compiled for it.

    Raises:
        ValueError: if no kernel was recorded under its name, or another profiler is running.
    """
    space, step_us = _record(*compilable(step, args, kwargs), steps)
    names = {kernel.name for kernel in kernels}
    return attribute(marked(space, STEP), executable_events(space), names, step_us)


def measure_ops(step, args: Sequence, *, steps: int = 20) -> Timing:
    """Return the times of the operations of a tf.function that runs as a graph, operation by operation.

    The names are the executor's, after its own rewriting: callers' names stand in front, as
    `tfcore.inspect.graph.origins.Origins.find` takes them. Operations that only call others are unattributed.

    Raises:
        ValueError: if no operation was recorded, as of a function that XLA compiles, or another profiler is running.
    """
    space, step_us = _record(step, args, steps)
    events = [(event, bool(_CALLERS.fullmatch(op_type))) for event, op_type in operation_events(space)]
    if not events:
        raise ValueError("no operation was recorded: XLA compiles the function whole; take measure_kernels")
    names = {event.name for event, calls in events if not calls}
    return attribute(marked(space, STEP), [event for event, _ in events], names, step_us)


def _record(step, args: Sequence, steps: int) -> tuple[XSpace, float]:
    """(a profile of `steps` warm steps, each marked STEP; median microseconds of as many without the profiler)."""
    for _ in range(2):  # compiles, then touches its memory
        _run(step, args)
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        _run(step, args)
        times.append(1e6 * (time.perf_counter() - begin))
    with tempfile.TemporaryDirectory() as folder:
        with _profiler(folder):
            for number in range(-2, steps):  # the first ones still set the profiler up, and are not marked
                mark = (
                    tf.profiler.experimental.Trace(STEP, step_num=number) if number >= 0 else contextlib.nullcontext()
                )
                with mark:
                    _run(step, args)
        space = XSpace()
        for path in Path(folder).rglob("*.xplane.pb"):
            space.MergeFromString(path.read_bytes())
    return space, statistics.median(times)


def _run(step, args: Sequence) -> None:
    step(*args)
    tf.test.experimental.sync_devices()  # a GPU is still at it when the call returns


@contextlib.contextmanager
def _profiler(folder: str) -> Iterator[None]:
    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    try:
        tf.profiler.experimental.start(folder, options)
    except tf.errors.AlreadyExistsError:
        raise ValueError(
            "kernels cannot be timed while another TensorFlow profiler is running: stop it first"
        ) from None
    try:
        yield
    finally:
        tf.profiler.experimental.stop()


def attribute(windows: Intervals, events: Sequence[Event], names: Collection[str], step_us: float | None) -> Timing:
    """Return the times of the steps that took place in `windows`: events that bear one of `names` are their kernels.

    Where several executables ran, the names are those of the one in which they took longest.

    Raises:
        ValueError: if no event in a step has a name.
    """
    inside: list[list[Event]] = [[] for _ in windows]
    seconds: defaultdict[str, float] = defaultdict(float)
    for event in events:
        middle = (event.begin + event.end) / 2  # a device's clock may be some microseconds off
        place = bisect.bisect(windows, (middle, float("inf"))) - 1
        if place >= 0 and middle <= windows[place][1]:
            # A thread may still be at an event's end when the step is over.
            begin, end = max(event.begin, windows[place][0]), min(event.end, windows[place][1])
            inside[place].append(dataclasses.replace(event, begin=begin, end=end))
            if event.name in names:
                seconds[event.group] += event.end - event.begin
    if not any(seconds.values()):
        raise ValueError(
            f"the profiler recorded {sum(map(len, inside))} events in {len(windows)} steps, none of them with the name "
            f"of one of {len(names)} kernels: are the kernels those of this step, and does it run on this machine?"
        )
    own = max(seconds, key=seconds.__getitem__)
    lines = {event.line for part in inside for event in part if event.group == own and event.name in names}
    parts = [_divide(part, window, names, own) for part, window in zip(inside, windows, strict=True)]
    other, us = _medians([part.other for part in parts]), _medians([part.us for part in parts])
    return Timing(
        us=us,
        step_us=step_us,
        profiled_us=statistics.median(end - begin for begin, end in windows),
        busy_us=statistics.median(part.busy for part in parts),
        unattributed=tuple(sorted(other.items(), key=lambda pair: -pair[1])),
        idle_us=statistics.median(part.idle for part in parts),
        threads=len(lines),
        steps=len(windows),
        runs={name: statistics.median_high(part.runs.get(name, 0) for part in parts) for name in us},
    )


@dataclasses.dataclass(frozen=True)
class _Parts:
    """One step's time, in microseconds."""

    us: dict[str, float]
    runs: dict[str, int]
    busy: float
    other: dict[str, float]
    idle: float


def _divide(events: list[Event], window: tuple[float, float], names: Collection[str], own: str) -> _Parts:
    kernels: defaultdict[str, Intervals] = defaultdict(list)
    others: defaultdict[str, Intervals] = defaultdict(list)
    for event in events:
        if event.group == own and event.name in names:
            kernels[event.name].append((event.begin, event.end))
        else:
            name = event.name if event.group == own else f"{event.group}/{event.name}"
            others[name].append((event.begin, event.end))
    covered = _union([interval for intervals in kernels.values() for interval in intervals])
    busy, other = _length(covered), {}
    for name in sorted(others, key=lambda name: _length(others[name])):  # inner loops before those around them
        before, covered = _length(covered), _union(covered + others[name])
        other[name] = _length(covered) - before
    idle = max(window[1] - window[0] - _length(covered), 0.0)  # never below but for rounding
    us = {name: _length(intervals) for name, intervals in kernels.items()}
    return _Parts(us, {name: len(intervals) for name, intervals in kernels.items()}, busy, other, idle)


def _union(intervals: Intervals) -> Intervals:
    """The same points in intervals that do not touch."""
    union: Intervals = []
    for begin, end in sorted(intervals):
        if union and begin <= union[-1][1]:
            union[-1] = union[-1][0], max(union[-1][1], end)
        else:
            union.append((begin, end))
    return union


def _length(intervals: Intervals) -> float:
    return sum(end - begin for begin, end in intervals)


def _medians(steps: list[dict[str, float]]) -> dict[str, float]:
    """The median of each name over the steps; a step without it counts as 0."""
    return {
        name: statistics.median(step.get(name, 0.0) for step in steps)
        for name in dict.fromkeys(name for step in steps for name in step)
    }
