"""What TensorFlow's profiler recorded, as events with begin and end: the xplane file without a viewer.

XLA's CPU runtime records a start and an end of every kernel ("fusion.33" and "end: fusion.33", with one number), since
matrix products and split loops go on in other threads after the call has returned
(xla/backends/cpu/runtime/thunk_executor.cc). On a GPU the driver records each launched function with the instruction
that it was launched for (xla/backends/profiler/gpu/cupti_collector.cc); several functions may serve one kernel. What
runs in a CUDA graph may come without that name.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator

from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XLine, XPlane, XSpace

_HOST, _DEVICE = "/host:CPU", "/device:"
# Lines of a device that later tools derive from its streams: they would count the same time again.
_DERIVED = frozenset(["Steps", "XLA Modules", "XLA Ops", "Framework Ops", "Framework Name Scope", "Source code"])
_OP = re.compile(r"(?P<name>[\w.\-/>]+):(?P<type>_?[A-Z]\w*)")


@dataclasses.dataclass(frozen=True)
class Event:
    """One run of something, in microseconds since the profile's start.

    `group` is the executable, "" for none; `line` the thread that started it, or the stream on which it ran.
    """

    name: str
    group: str
    line: int
    begin: float
    end: float


def marked(space: XSpace, mark: str) -> list[tuple[float, float]]:
    """Return (begin, end) in microseconds of what was run under tf.profiler.experimental.Trace(mark), in order."""
    return sorted(
        (begin, end)
        for plane, line in _lines(space, _HOST)
        for name, _, begin, end in _events(plane, line)
        if name == mark
    )


def executable_events(space: XSpace) -> list[Event]:
    """Return the runs of HLO instructions: a device's streams where it has any, else the host's threads."""
    found = [
        Event(str(stats["hlo_op"]), str(stats.get("hlo_module", "")), line.id, begin, end)
        for plane, line in _lines(space, _DEVICE)
        for _, stats, begin, end in _events(plane, line)
        if "hlo_op" in stats
    ]
    if found:
        return found
    begun, ended = [], {}
    for plane, line in _lines(space, _HOST):
        for name, stats, begin, end in _events(plane, line):
            if "hlo_op" in stats:
                event = Event(str(stats["hlo_op"]), str(stats.get("hlo_module", "")), line.id, begin, end)
                begun.append((event, (event.name, stats.get("_p"))))
            elif name.startswith("end: "):
                ended[name.removeprefix("end: "), stats.get("_c")] = begin
    return [dataclasses.replace(event, end=ended.get(key, event.end)) for event, key in begun]


def hlo_protos(space: XSpace) -> list[tuple[str, bytes]]:
    """Return (name with its number, serialized HloProto) of the modules that a profile holds."""
    return [
        (event.name, stat.bytes_value)
        for plane in space.planes
        for event in plane.event_metadata.values()
        for stat in event.stats
        if stat.WhichOneof("value") == "bytes_value"
        and "hlo proto" in plane.stat_metadata[stat.metadata_id].name.lower()
    ]


def runs(space: XSpace, label: str) -> list[tuple[float, float]]:
    """Return (begin, end) in microseconds of the runs of a module, named as by `hlo_protos`, in order.

    JAX numbers its runs. TensorFlow does not: there a run begins where the instruction that runs the least often does.
    """
    name, _, number = label.rstrip(")").rpartition("(")
    for prefix in (_DEVICE, _HOST):
        found = [
            (begin, end, str(stats["hlo_op"]), stats.get("run_id", -1))
            for plane, line in _lines(space, prefix)
            for _, stats, begin, end in _events(plane, line)
            if "hlo_op" in stats
            and stats.get("hlo_module") in (label, name)
            and str(stats.get("program_id", number)) == number
        ]
        if found:
            return _numbered_runs(found) if all(event[3] != -1 for event in found) else _unnumbered_runs(sorted(found))
    return []


def _numbered_runs(events: list[tuple[float, float, str, int]]) -> list[tuple[float, float]]:
    spans: dict[int, tuple[float, float]] = {}
    for begin, end, _, run in events:
        before = spans.get(run, (begin, end))
        spans[run] = min(before[0], begin), max(before[1], end)
    return sorted(spans.values())


def _unnumbered_runs(events: list[tuple[float, float, str, int]]) -> list[tuple[float, float]]:
    times = Counter(name for _, _, name, _ in events)
    rarest = min(times.values())
    first = next(place for place, event in enumerate(events) if times[event[2]] == rarest)
    places = [place - first for place, event in enumerate(events) if event[2] == events[first][2]]
    parts = [events[begin:end] for begin, end in zip(places, [*places[1:], len(events)], strict=True)]
    return [(part[0][0], max(event[1] for event in part)) for part in parts if part]


def operation_events(space: XSpace) -> list[tuple[Event, str]]:
    """Return (run, type) of the graph's operations: a device's where it names any, and those of the host's threads.

    What a device runs for an operation takes the place of the host's launching it.
    """
    on_device, on_host = [], []
    for prefix, events in ((_DEVICE, on_device), (_HOST, on_host)):
        for plane, line in _lines(space, prefix):
            for name, stats, begin, end in _events(plane, line):
                found = _OP.fullmatch(str(stats.get("tf_op", "")) if prefix == _DEVICE else name)
                if found:
                    events.append((Event(found["name"], "", line.id, begin, end), found["type"]))
    launched = {event.name for event, _ in on_device}
    return on_device + [(event, op_type) for event, op_type in on_host if event.name not in launched]


def _lines(space: XSpace, prefix: str) -> Iterator[tuple[XPlane, XLine]]:
    for plane in space.planes:
        if plane.name.startswith(prefix):
            yield from ((plane, line) for line in plane.lines if line.name not in _DERIVED)


def _events(plane: XPlane, line: XLine) -> Iterator[tuple[str, dict, float, float]]:
    """(name, stats, begin, end) of a line's events, times in microseconds."""
    for event in line.events:
        begin = line.timestamp_ns / 1e3 + event.offset_ps / 1e6
        stats = {plane.stat_metadata[stat.metadata_id].name: _value(plane, stat) for stat in event.stats}
        yield plane.event_metadata[event.metadata_id].name, stats, begin, begin + event.duration_ps / 1e6


def _value(plane: XPlane, stat):
    kind = stat.WhichOneof("value")
    return plane.stat_metadata[stat.ref_value].name if kind == "ref_value" else getattr(stat, kind)
