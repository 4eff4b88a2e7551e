"""Two or more forms of the same step side by side: what the compiler made of each, and its time, taking turns."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

from tfcore.inspect.columns import aligned
from tfcore.inspect.profile.ratios import ratios
from tfcore.inspect.profile.step_report import StepReport


@dataclasses.dataclass(frozen=True)
class Form:
    """One form of a step: `label` names it, `ms` are the milliseconds of its turns, () where it was not run."""

    label: str
    report: StepReport
    ms: tuple[float, ...] = ()


def take_turns(steps: Sequence[Callable[[], object]], turns: int) -> list[tuple[float, ...]]:
    """Return the milliseconds of each step at each turn, one run a turn, after one that does not count.

    Turns, so that a machine that is slow for a minute is slow for all. A step returns when the device is done.

    Raises:
        ValueError: for fewer than 1 turn.
    """
    if turns < 1:
        raise ValueError(f"turns must be at least 1, got {turns}")
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(turns + 1):
        for step, found in zip(steps, times, strict=True):
            begin = time.perf_counter()
            step()
            if turn:
                found.append(1000 * (time.perf_counter() - begin))
    return [tuple(found) for found in times]


def comparison_rows(forms: Sequence[Form]) -> list[list[str]]:
    """Return a table, its header first: what is counted, of each form, and for those after the first how many times
    the first one's it is.

    A time's ratio is the median of the ratios turn by turn, with their quartiles where there are three turns or more.
    """
    first, *others = forms
    rows = [["", first.label, *(cell for form in others for cell in (form.label, "times"))]]
    for name, value, show in _ROWS:
        values = [count for form in forms if (count := value(form.report)) is not None]
        if len(values) < len(forms):
            continue  # a program that was compiled elsewhere does not tell
        pairs = ((show(found), _times(found, values[0])) for found in values[1:])
        rows.append([name, show(values[0]), *(cell for pair in pairs for cell in pair)])
    if first.ms:
        pairs = ((_median(form), _ratio(form.ms, first.ms)) for form in others)
        rows.append(["ms a step, median", _median(first), *(cell for pair in pairs for cell in pair)])
    return rows


def comparison_text(forms: Sequence[Form], title: str) -> str:
    """Return `comparison_rows` in aligned columns."""
    rows = comparison_rows(forms)
    lines = aligned(rows, lambda column, cell: column > 0)
    return "\n".join([title, *(f"  {line}" for line in lines)]) + "\n"


def _operations(report: StepReport, stage: str) -> int | None:
    counts = getattr(report.before_after, stage, None)
    return sum(counts.values()) if counts else None


_ROWS = (
    ("operations in the graph", lambda report: _operations(report, "graph"), "{:,}".format),
    ("HLO as built", lambda report: _operations(report, "built"), "{:,}".format),
    ("HLO as optimized", lambda report: _operations(report, "optimized"), "{:,}".format),
    ("kernels", lambda report: len(report.kernels), "{:,}".format),
    ("GFLOP", lambda report: report.totals.flops / 1e9, "{:,.4g}".format),
    ("million transcendentals", lambda report: report.totals.transcendentals / 1e6, "{:,.4g}".format),
    ("million integer operations", lambda report: report.totals.integer_ops / 1e6, "{:,.4g}".format),
    ("GB read and written", lambda report: report.totals.bytes / 1e9, "{:,.4g}".format),
    ("peak MiB", lambda report: report.memory and report.memory.peak_bytes / 2**20, "{:,.1f}".format),
    ("s to compile", lambda report: report.compile_seconds, "{:,.1f}".format),
)


def _median(form: Form) -> str:
    return f"{statistics.median(form.ms):,.3g}"


def _times(value: float, first: float) -> str:
    return f"{value / first:.3g}" if first else ""


def _ratio(times: Sequence[float], first: Sequence[float]) -> str:
    if len(times) < 3:
        return f"{statistics.median(own / base for own, base in zip(times, first, strict=True)):.3g}"
    median, low, high = ratios(times, first)
    return f"{median:.3g} ({low:.3g} .. {high:.3g})"
