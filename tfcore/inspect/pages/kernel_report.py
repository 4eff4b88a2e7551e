"""A profiled step as text that fits a terminal's screen, and the sentences that the page says, too."""

import re
import textwrap
from collections import Counter

from tfcore.inspect.columns import aligned
from tfcore.inspect.hlo.kernels import Kernel
from tfcore.inspect.hlo.stages import Stages
from tfcore.inspect.profile.step_profile import Group, StepProfile

WIDTH = 118
ROWS = 10  # of kernels, of layers
# A share of the step's time, bytes or arithmetic that is worth a warning.
_WORTH = 0.05


def text_report(profile: StepProfile, title: str, *, rows: int = ROWS) -> str:
    """Return totals, bounds, the heaviest kernels and layers, what became of the graph, and warnings."""
    parts = [title, *(_wrapped(f"  {name:9}", text) for name, text in facts(profile))]
    parts += ["", *_lines(_kernel_table(profile, profile.ranked()[:rows]))]
    groups = profile.groups(lambda kernel: folded_layer(kernel.layer))
    parts += ["", *_lines(_layer_table(profile, groups[:rows]))]
    if len(groups) > rows:
        parts.append(f"  and {many(len(groups) - rows, 'layer')} more: see --html or --json")
    found = warnings(profile)
    parts += ["", *(_wrapped("warning: ", text) for text in found)] if found else []
    return "\n".join(parts) + "\n"


def facts(profile: StepProfile) -> list[tuple[str, str]]:
    """Return what is to be said of the whole step, as (name, sentence)."""
    found = [*_work(profile), *_time(profile), *_tracing(profile)]
    if profile.report is not None and profile.report.before_after is not None:
        stages = profile.report.before_after
        before, built, after = (sum(stage.values()) for stage in (stages.graph, stages.built, stages.optimized))
        text = f"{before:,} operations in the graph, " if stages.graph else ""
        text += f"{built:,} in HLO as built, {after:,} as optimized, fused into {len(profile.kernels):,} kernels"
        found.append(("compiler", f"{text}; {_gone(stages)}"))
    return found


def warnings(profile: StepProfile) -> list[str]:
    """Return what a reader should know before trusting or shipping the step; [] if there is nothing."""
    found = [f"XLA could not compile {item}" for item in profile.refused]
    if profile.tracing is not None and (changes := [c for trace in profile.tracing.traces for c in trace.changes]):
        found.append(f"traced {many(profile.tracing.count, 'time')}: {'; '.join(changes)}")
    if profile.report is None:
        return [*found, *_time_warnings(profile)]
    uncounted = [kernel for kernel in profile.kernels if not kernel.counted]
    if uncounted:
        names = ", ".join(kernel.name for kernel in uncounted[:3])
        found.append(
            f"uncounted, having no formula: work in {many(len(uncounted), 'kernel')} ({names}); the sums lack it"
        )
    unknown = [kernel.name for kernel in profile.kernels if kernel.runs is None]
    if unknown:
        found.append(f"counted once, in loops of unknown length: {many(len(unknown), 'kernel')}, such as {unknown[0]}")
    found += _branch_warnings(profile)
    slow = [kernel for kernel in profile.kernels if kernel.opcode == "convolution" and (kernel.runs or 2) > 1]
    if slow:
        found.append(f"{slow[0]} is a convolution in a loop, for which XLA has only a slow path on CPU: unroll it")
    again, flops = sum(kernel.flops_again for kernel in profile.kernels), profile.report.totals.flops
    if again > _WORTH * flops:
        found.append(f"{again / flops:.0%} of the arithmetic is forward work that backward kernels compute once more")
    return [*found, *_time_warnings(profile)]


def _branch_warnings(profile: StepProfile) -> list[str]:
    """One sentence for each sort of condition: what is known of which of its branches runs."""
    branches = {kernel.branch for kernel in profile.kernels if kernel.branch is not None}
    ran = sorted({branch.condition for branch in branches if branch.counted == "ran"})
    guessed = sorted({branch.condition for branch in branches if branch.counted == "dearest"})
    found = []
    if ran:
        found.append(
            f"of {many(len(ran), 'condition')} ({ran[0]}) only the branch that ran under the profiler is counted"
        )
    if guessed:
        found.append(
            f"which branch of {many(len(guessed), 'condition')} ({guessed[0]}) runs cannot be known here: the dearest "
            "branch is counted, the others are not"
        )
    return found


def _time_warnings(profile: StepProfile) -> list[str]:
    timing, found = profile.timing, []
    if timing is None:
        return found
    total = profile.kernel_us
    missed = sum(us for _, us in timing.unattributed)
    if missed > _WORTH * timing.profiled_us:
        name, us = timing.unattributed[0]
        found.append(f"{missed / timing.profiled_us:.0%} of the step fits no kernel, the most of it {name} ({_ms(us)})")
    for kernel in profile.kernels:
        us = profile.us(kernel) or 0.0
        if kernel.opcode in ("scatter", "sort", "select-and-scatter") and us > _WORTH * total:
            found.append(f"{kernel} is a {kernel.opcode}, which runs on one thread on CPU: {_ms(us)}")
    if timing.idle_us > 0.2 * timing.profiled_us:
        share = f"{timing.idle_us / timing.profiled_us:.0%}"
        found.append(f"in {share} of the step nothing of it ran: the call, the launch, other programs' turns")
    return found


def _work(profile: StepProfile) -> list[tuple[str, str]]:
    if profile.report is None:
        text = f"{len(profile.kernels):,} of TensorFlow's operations{' ran' * (profile.timing is not None)}"
        return [("graph", f"{text}; FLOPs, bytes and bounds are those of XLA's kernels: leave out --xla off")]
    totals, memory = profile.report.totals, profile.report.memory
    counts = ((totals.transcendentals, "transcendentals"), (totals.integer_ops, "integer operations"))
    work = [f"{len(profile.kernels):,} kernels", f"{scaled(totals.flops)}FLOP"]
    work += [f"{scaled(count).strip()} {name}" for count, name in counts]
    work += [f"{scaled(totals.comparisons).strip()} comparisons of sorts"] if totals.comparisons else []
    work += [f"{scaled(totals.bytes_read)}B read", f"{scaled(totals.bytes_written)}B written"]
    work += [f"{scaled(totals.bytes_sent)}B sent to other devices"] if totals.bytes_sent else []
    partitions, replicas = profile.report.optimized.devices
    if partitions * replicas > 1:
        work.append(f"all per device, of {partitions * replicas}")
    if memory is None:
        return [("work", ", ".join(work)), ("memory", "unknown: the HLO has no schedule, so that no order is known")]
    layers = {kernel.name: kernel.layer for kernel in profile.kernels}
    largest = ", ".join(
        f"{mib(buffer.bytes)} {buffer.name} ({layers.get(buffer.name) or '?'})" for buffer in memory.largest[:2]
    )
    peak = f"{mib(memory.peak_bytes)} at the peak ({memory.method}), {mib(memory.argument_bytes)} of it arguments"
    peak += "".join(f", {mib(size)} in memory space {space}" for space, size in sorted(memory.spaces.items()))
    return [("work", ", ".join(work)), ("memory", f"{peak}; largest: {largest}")]


def _time(profile: StepProfile) -> list[tuple[str, str]]:
    timing = profile.timing
    if timing is None:
        return []
    missed = sum(us for _, us in timing.unattributed)
    what = "kernel" if profile.report is not None else "operation"
    text = f"{_ms(timing.step_us)} a step; " if timing.step_us is not None else ""
    text += f"under the profiler {_ms(timing.profiled_us)} (median of {timing.steps}): "
    text += (
        f"for {_ms(timing.busy_us)} ({timing.coverage:.0%}) a {what} ran, for {_ms(missed)} something that is none, "
    )
    text += f"for {_ms(timing.idle_us)} nothing; the {what}s' own times add up to {_ms(profile.kernel_us)}, started on "
    text += many(timing.threads, "thread")
    found = [("time", text)]
    if profile.ceilings is not None:
        peaks = (f"{name} {scaled(value)}FLOP/s" for name, value in profile.ceilings.flops_per_second.items())
        limits = f"{', '.join(peaks)}, memory {scaled(profile.ceilings.bytes_per_second)}B/s"
        best = sum(where.attainable_us for where in profile.places.values())
        share = f"{best / max(profile.kernel_us, 1e-9):.0%}"
        found.append(("ceilings", f"{limits}; at them the kernels would take {_ms(best)}, {share} of their time"))
        if profile.note:
            found.append(("", profile.note))
        found.append(("bounds", bounds(profile)))
    return found


def bounds(profile: StepProfile) -> str:
    """Say how the kernels' time divides over the bounds that hold them."""
    shares = profile.groups(lambda kernel: bound_of(profile, kernel))
    total = max(profile.kernel_us, 1e-9)
    found = ", ".join(
        f"{group.name} {(group.us or 0) / total:.0%} ({many(group.kernels, 'kernel')})" for group in shares
    )
    return f"of the kernels' time {found}"


def bound_of(profile: StepProfile, kernel: Kernel) -> str:
    """Return compute, memory, other, or untimed."""
    where = profile.places.get(kernel.name)
    return where.bound if where is not None else "untimed"


def _tracing(profile: StepProfile) -> list[tuple[str, str]]:
    if profile.tracing is None:
        return []
    times = f"traced {many(profile.tracing.count, 'time')}"
    report = profile.report
    if report is None:
        return [("tracing", times)]
    text = f"{times}, in {report.trace_seconds:.1f} s; built in {report.build_seconds:.1f} s, "
    return [("tracing", text + f"compiled in {report.compile_seconds:.1f} s")]


def _gone(stages: Stages) -> str:
    reasons = Counter(reason(gone.reason) for gone in stages.gone)
    return "gone: " + ", ".join(f"{count:,} {name}" for name, count in reasons.most_common())


def reason(text: str) -> str:
    """Return the sort of reason for which an operation is gone."""
    return (
        "common subexpressions" if text.startswith("same as") else {"result unused": "unused"}.get(text, "simplified")
    )


def folded_layer(layer: str) -> str:
    """blocks/3/attention -> blocks/*/attention: layers of the same kind together."""
    return re.sub(r"(?<=/)\d+(?=/|$)", "*", layer) or "(unknown)"


def _kernel_table(profile: StepProfile, kernels: list[Kernel]) -> list[list[str]]:
    timed, counted = profile.timing is not None, profile.report is not None
    header = [*(["µs", "%"] if timed else []), *(["roof", "bound"] if profile.ceilings else [])]
    header += [*(["FLOP", "B"] if counted else []), "kernel", "from"]
    rows = []
    for kernel in kernels:
        us, where = profile.us(kernel), profile.places.get(kernel.name)
        row = [f"{us:,.0f}" if us is not None else "", _share(us, profile.kernel_us)] if timed else []
        row += ([f"{where.fraction:.0%}", where.bound] if where else ["", ""]) if profile.ceilings else []
        row += [scaled(kernel.flops), scaled(kernel.bytes)] if counted else []
        name = kernel.name if len(kernel.name) <= 24 else f"{kernel.name[:8]}…{kernel.name[-15:]}"
        origin = (kernel.source.rpartition("/")[2], kernel.layer, kernel.phase, kernel.op_type)
        rows.append([*row, name, ", ".join(filter(None, origin))])
    return [header, *rows]


def _layer_table(profile: StepProfile, groups: list[Group]) -> list[list[str]]:
    timed, counted = profile.timing is not None, profile.report is not None
    header = [*(["µs", "%"] if timed else []), *(["FLOP", "B"] if counted else []), "kernels", "layer"]
    rows = []
    for group in groups:
        row = [f"{group.us:,.0f}", _share(group.us, profile.kernel_us)] if timed else []
        row += [scaled(group.flops), scaled(group.bytes)] if counted else []
        rows.append([*row, f"{group.kernels:,}", group.name])
    return [header, *rows]


def _lines(table: list[list[str]]) -> list[str]:
    """Aligned columns: texts, from the kernel's or the layer's name on, to the left, numbers to the right; cut off."""
    texts = next(place for place, name in enumerate(table[0]) if name in ("kernel", "layer"))
    lines = aligned(table, lambda column, cell: column < texts)
    return [line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines]


def _wrapped(start: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def scaled(value: float) -> str:
    """1234567 -> '1.23 M': three figures and a unit's prefix."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "


def many(count: int, what: str) -> str:
    """A number of things: 1 kernel, 1,234 kernels."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def mib(count: int) -> str:
    """Bytes in MiB, few of them in KiB."""
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 // 10 or not count else f"{count / 2**10:,.1f} KiB"


def _ms(us: float) -> str:
    return f"{us / 1000:,.3g} ms" if us < 1e6 else f"{us / 1000:,.0f} ms"


def _share(part: float | None, whole: float) -> str:
    return "" if part is None else f"{part / max(whole, 1e-9):.1%}"
