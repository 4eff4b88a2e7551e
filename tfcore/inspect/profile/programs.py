"""Programs that XLA compiled elsewhere, taken apart as they lie about: HLO texts, dump folders, HLO protos, profiles.

modules = find_modules("dump/")                  # recognized by content
module = choose(modules, "jit_train_step")       # or the dearest by FLOPs
profile = program_profile(module)                # as `profile_step` returns it, without ceilings
"""

import dataclasses
import functools
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from tfcore.inspect.hlo import buffers, parser
from tfcore.inspect.hlo.kernels import find_kernels
from tfcore.inspect.hlo.metadata_origins import MetadataOrigins, whole_names
from tfcore.inspect.hlo.module import HloModule
from tfcore.inspect.hlo.proto import from_proto, read_proto
from tfcore.inspect.hlo.stages import compare_stages
from tfcore.inspect.profile import xplane
from tfcore.inspect.profile.step_profile import StepProfile
from tfcore.inspect.profile.step_report import StepReport, total_cost
from tfcore.inspect.profile.timing import Timing, attribute

_DUMP = re.compile(
    r"(?P<module>module_\d+\.[^/]*?)\.(?P<stage>[\w\-]*(?:after|before)_optimizations)\.(?P<kind>txt|hlo\.pb)$"
)


@dataclasses.dataclass(frozen=True)
class Program:
    """A module that somebody's XLA has compiled; `memory` and `timing` where its file tells them."""

    name: str
    optimized: HloModule
    built: HloModule | None = None
    allocations: tuple[buffers.Allocation, ...] = ()
    timing: Callable[[Sequence[str]], Timing] | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def report(self) -> StepReport:
        """The module taken apart."""
        return _report(self)


def find_programs(path: Path) -> list[Program]:
    """Return the modules in a file or a folder, recognized by what it holds.

    Raises:
        ValueError: for what holds none, saying what it is and what to do.
    """
    if not path.is_dir():
        return _of_file(path)
    profiles = sorted(path.rglob("*.xplane.pb"))
    if profiles:
        return _of_file(profiles[-1])
    dumped = sorted(file for file in path.iterdir() if _DUMP.match(file.name))
    if dumped:
        return _of_dump(dumped)
    if not any(path.iterdir()):
        raise ValueError(f"{path}: an empty folder: was the dump written, or the profile stopped?")
    texts = [
        file for file in sorted(path.iterdir()) if file.is_file() and file.suffix in (".hlo", ".txt", ".gz", ".pb")
    ]
    found = [program for file in texts for program in _of_file_or_none(file)]
    if not found:
        raise ValueError(
            f"{path}: no HLO in this folder: give one that --xla_dump_to wrote (*after_optimizations.txt), a "
            "profiler's log folder (*.xplane.pb) or a SavedModel"
        )
    return found


def choose(programs: Sequence[Program], name: str = "") -> Program:
    """Return the program that is called `name`, or the one with the most FLOPs.

    Raises:
        ValueError: for a name that none or several have.
    """
    if not name:
        return max(programs, key=lambda program: (program.report.totals.flops, program.report.totals.bytes))
    found = [program for program in programs if program.name == name] or [
        program for program in programs if name in (program.optimized.name, program.name.partition("(")[0])
    ]
    if len(found) == 1:
        return found[0]
    what = "several modules are" if found else "no module is"
    raise ValueError(f"{what} called {name!r}: there is {', '.join(p.name for p in found or programs)}")


def program_profile(program: Program) -> StepProfile:
    """Return a program taken apart, with the times that its file holds."""
    report, timing = program.report, None
    if program.timing is not None:
        timing = program.timing([kernel.name for kernel in report.kernels])
        report = report.recounted(timing.runs)
    return StepProfile(report.kernels, report, None, (), timing, None)


def _report(program: Program) -> StepReport:
    optimized = program.optimized
    origins = MetadataOrigins(optimized)
    kernels = tuple(find_kernels(optimized, origins))
    stages = memory = None
    if program.built is not None:
        built = whole_names(program.built)
        layers = Counter(kernel.layer for kernel in kernels)
        stages = compare_stages((built, MetadataOrigins(built)), (optimized, origins), kernels=layers, graph={})
    if optimized.is_scheduled:
        memory = (
            buffers.from_assignment(program.allocations, optimized)
            if program.allocations
            else buffers.estimate(optimized)
        )
    return StepReport(
        name=optimized.name,
        kernels=kernels,
        totals=total_cost(kernels),
        optimized=optimized,
        origins=origins,
        before_after=stages,
        memory=memory,
        built=program.built,
    )


def _of_file_or_none(path: Path) -> list[Program]:
    try:
        return _of_file(path)
    except ValueError:
        return []


def _of_file(path: Path) -> list[Program]:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: a gzip file that is cut off or damaged ({error})") from None
    try:
        if b"\0" not in data[:4096] and not path.name.endswith((".pb", ".pb.gz")):
            text = data.decode("utf-8", errors="replace")
            names = parser.module_names(text)
            if len(names) == 1:
                module = parser.parse(text)
                return [Program(module.name or path.name, module, allocations=_beside(path))]
            return [Program(name, parser.parse(text, name)) for name in names]
        if path.name.endswith((".xplane.pb", ".xplane.pb.gz")) or _is_profile(data):
            return _of_profile(data)
        proto = read_proto(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    has_memory = bool(proto.buffer_assignment.buffer_allocations)
    allocations = tuple(buffers.allocations_of_proto(proto)) if has_memory else ()
    return [Program(proto.hlo_module.name, from_proto(proto.hlo_module), allocations=allocations)]


def _beside(path: Path) -> tuple[buffers.Allocation, ...]:
    """The buffer assignment that a dump has beside a text."""
    beside = path.with_name(f"{path.stem}-buffer-assignment.txt")
    text = beside.read_text(encoding="utf-8", errors="replace") if path.suffix == ".txt" and beside.is_file() else ""
    return tuple(buffers.allocations_of_text(text))


def _of_dump(files: Sequence[Path]) -> list[Program]:
    stages: dict[str, dict[str, Path]] = {}
    for file in files:
        found = _DUMP.match(file.name)
        if found is None:
            continue
        stage = "before" if "before_optimizations" in found["stage"] else "after"
        known = stages.setdefault(found["module"], {})
        if stage not in known or found["kind"] == "txt":  # with a text beside it, that
            known[stage] = file
    programs = []
    for name, known in stages.items():
        if "after" not in known:
            continue
        (program,) = _of_file(known["after"])
        built = _of_file(known["before"])[0].optimized if "before" in known else None
        programs.append(dataclasses.replace(program, name=name, built=built))
    if not programs:
        raise ValueError(f"{files[0].parent}: no *after_optimizations file: did the compilation end with an error?")
    return programs


def _is_profile(data: bytes) -> bool:
    try:
        return any(plane.name.startswith("/") for plane in XSpace.FromString(data).planes)
    except Exception:  # of protobuf
        return False


def _of_profile(data: bytes) -> list[Program]:
    space = XSpace()
    try:
        space.ParseFromString(data)
    except Exception:
        raise ValueError("no profile: the file is cut off or of another kind") from None
    protos = xplane.hlo_protos(space)
    if not protos:
        raise ValueError("the profile holds no HLO module: did anything that XLA compiled run while it was on?")
    programs = []
    for label, serialized in protos:
        proto = read_proto(serialized)
        has_memory = bool(proto.buffer_assignment.buffer_allocations)
        allocations = tuple(buffers.allocations_of_proto(proto)) if has_memory else ()
        timing = functools.partial(_times, space, label) if xplane.runs(space, label) else None
        programs.append(Program(label, from_proto(proto.hlo_module), allocations=allocations, timing=timing))
    return programs


def _times(space: XSpace, label: str, names: Sequence[str]) -> Timing:
    """The times of a module that ran under somebody else's profiler: a step is one run of it."""
    windows = xplane.runs(space, label)
    events = [event for event in xplane.executable_events(space) if event.group == label.partition("(")[0]]
    return attribute(windows, events, set(names), None)
