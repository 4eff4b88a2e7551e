"""Two programs side by side: time, FLOPs, bytes and peak by layer, phase and line; kernels gained, lost, changed.

one, other = Side.of_profile("before", before), Side.of_profile("after", after)
print(difference_text(one, other))
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from tfcore.inspect.columns import aligned
from tfcore.inspect.profile.step_profile import StepProfile

ROWS = 12  # of each table as text
_FIELDS = ("us", "flops", "bytes")
_IDENTITY = ("layer", "phase", "source", "operation", "kind")
_NEEDED = frozenset(("name", "layer", "source", "phase", "flops", "bytes"))


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two: `kernels` as `StepProfile.to_json` gives them; `peak_bytes` None where it is not known."""

    label: str
    kernels: Sequence[dict]
    peak_bytes: int | None = None

    @classmethod
    def of_profile(cls, label: str, profile: StepProfile) -> "Side":
        """Return a profiled step as a side."""
        memory = None if profile.report is None else profile.report.memory
        return cls(label, profile.to_json(), None if memory is None else memory.peak_bytes)

    @classmethod
    def of_json(cls, path: Path) -> "Side | None":
        """Return what `inspect_kernels.py --json` has saved as a side; None for a file that is something else."""
        try:
            kernels = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, ValueError):
            return None
        if not isinstance(kernels, list) or not all(isinstance(x, dict) and x.keys() >= _NEEDED for x in kernels):
            return None
        return cls(str(path), kernels)

    def total(self, field: str) -> float | None:
        """Return the sum of a field over the kernels; None where none has it."""
        return _sum(self.kernels, field)


@dataclasses.dataclass(frozen=True)
class KernelChange:
    """A kernel that only one side has, or that does another work on each: `one` or `other` is None where it is not."""

    one: dict | None
    other: dict | None

    @property
    def sort(self) -> str:
        """gained, lost or changed."""
        return "gained" if self.one is None else "lost" if self.other is None else "changed"

    def by(self, field: str) -> float:
        """Return by how much a field grows from the one to the other."""
        return ((self.other or {}).get(field) or 0) - ((self.one or {}).get(field) or 0)


def summary_rows(one: Side, other: Side) -> list[list[str]]:
    """Return the sums of both sides, a header first."""
    rows = [["", one.label, other.label, "difference", "times"]]
    rows.append(["kernels", *_cells(len(one.kernels), len(other.kernels))])
    for title, field in (("µs", "us"), ("FLOP", "flops"), ("bytes", "bytes"), ("transcendentals", "transcendentals")):
        rows.append([title, *_cells(one.total(field), other.total(field))])
    rows.append(["peak bytes", *_cells(one.peak_bytes, other.peak_bytes)])
    return [row for row in rows if any(row[1:3])]


def group_rows(one: Side, other: Side, key: Callable[[dict], str], title: str) -> list[list[str]]:
    """Return time, FLOPs and bytes of each group of kernels on both sides, the largest difference first."""
    sides = [defaultdict(list), defaultdict(list)]
    for groups, side in zip(sides, (one, other), strict=True):
        for kernel in side.kernels:
            groups[key(kernel)].append(kernel)
    fields = [name for name in _FIELDS if one.total(name) is not None and other.total(name) is not None]
    sums = {
        name: [[_sum(groups.get(name, ()), field) or 0 for groups in sides] for field in fields]
        for name in dict.fromkeys((*sides[0], *sides[1]))
    }
    wholes = [max(one.total(field) or 0, other.total(field) or 0, 1e-9) for field in fields]
    order = sorted(
        sums, key=lambda name: -sum(abs(b - a) / whole for (a, b), whole in zip(sums[name], wholes, strict=True))
    )
    names = {"us": "µs", "flops": "FLOP", "bytes": "bytes"}
    header = [title, "kernels", *(cell for field in fields for cell in (names[field], "", "difference"))]
    rows = [header]
    for name in order:
        count = f"{len(sides[0].get(name, ()))} → {len(sides[1].get(name, ()))}"
        cells = [cell for a, b in sums[name] for cell in (_number(a), _number(b), _signed(b - a))]
        rows.append([name or "(unknown)", count, *cells])
    return rows


def kernel_changes(one: Side, other: Side) -> list[KernelChange]:
    """Return the kernels gained, lost and changed, those with the largest difference in bytes and FLOPs first.

    A kernel is the same on both sides where layer, phase, line, operation and kind are; of several, in their order,
    those with the same work first.
    """
    sides = [defaultdict(list), defaultdict(list)]
    for groups, side in zip(sides, (one, other), strict=True):
        for kernel in side.kernels:
            groups[tuple(kernel.get(name) for name in _IDENTITY)].append(kernel)
    changes = []
    for identity in dict.fromkeys((*sides[0], *sides[1])):
        left, right = list(sides[0].get(identity, ())), list(sides[1].get(identity, ()))
        for kernel in tuple(left):
            same = next((x for x in right if _work(x) == _work(kernel)), None)
            if same is not None:
                left.remove(kernel)
                right.remove(same)
        pairs = min(len(left), len(right))
        changes += [KernelChange(a, b) for a, b in zip(left[:pairs], right[:pairs], strict=True)]
        changes += [KernelChange(kernel, None) for kernel in left[pairs:]]
        changes += [KernelChange(None, kernel) for kernel in right[pairs:]]
    return sorted(changes, key=lambda change: -(abs(change.by("bytes")) + abs(change.by("flops"))))


def change_rows(changes: Sequence[KernelChange]) -> list[list[str]]:
    """Return the changes as a table, its header first."""
    rows = [["", "kernel", "FLOP", "bytes", "µs", "from", "shape"]]
    for change in changes:
        kernel = change.other or change.one or {}
        name = kernel["name"]
        if change.one is not None and change.other is not None:
            name = f"{change.one['name']} → {change.other['name']}"
        shapes = dict.fromkeys(side["shape"] for side in (change.one, change.other) if side and side.get("shape"))
        origin = (kernel["source"].rpartition("/")[2], kernel["layer"], kernel["phase"], kernel.get("operation"))
        cells = [_signed(change.by(field)) for field in ("flops", "bytes", "us")]
        rows.append([change.sort, name, *cells, ", ".join(filter(None, origin)), " → ".join(shapes)])
    return rows


def difference_tables(one: Side, other: Side) -> list[tuple[str, list[list[str]]]]:
    """Return (title, table with its header first) of all that differs."""
    changes = kernel_changes(one, other)
    counts = {sort: sum(change.sort == sort for change in changes) for sort in ("gained", "lost", "changed")}
    words = ", ".join(f"{count:,} {sort}" for sort, count in counts.items())
    same = len(one.kernels) - counts["lost"] - counts["changed"]
    return [
        (f"{one.label} against {other.label}", summary_rows(one, other)),
        ("by layer", group_rows(one, other, lambda kernel: kernel["layer"], "layer")),
        ("by phase", group_rows(one, other, lambda kernel: kernel["phase"], "phase")),
        ("by line", group_rows(one, other, lambda kernel: kernel["source"], "line")),
        *([(f"kernels: {words}, {same:,} the same", change_rows(changes))] if changes else []),
    ]


def difference_text(one: Side, other: Side, *, rows: int = ROWS, width: int = 118) -> str:
    """Return the tables as text, the largest differences of each."""
    lines = []
    for title, table in difference_tables(one, other):
        cut = [row[:-1] for row in table] if "shape" in table[0] else table
        shown = [[cell if len(cell) <= 44 else f"{cell[:20]}…{cell[-23:]}" for cell in row] for row in cut[: rows + 1]]
        lines += ["", title, *(f"  {line}"[:width] for line in aligned(shown, lambda column, cell: _numeric(cell)))]
        if len(table) > rows + 1:
            lines.append(f"  and {len(table) - rows - 1:,} more: see --html")
    return "\n".join(lines[1:]) + "\n"


def _work(kernel: dict) -> tuple:
    return tuple(kernel.get(name) for name in ("flops", "bytes", "shape"))


def _sum(kernels: Sequence[dict], field: str) -> float | None:
    values = [kernel[field] for kernel in kernels if kernel.get(field) is not None]
    return sum(values) if values else None


def _cells(a: float | None, b: float | None) -> list[str]:
    if a is None or b is None:
        return ["" if a is None else _number(a), "" if b is None else _number(b), "", ""]
    return [_number(a), _number(b), _signed(b - a), f"{b / a:.3g}" if a else ""]


def _number(value: float) -> str:
    return f"{value:,.1f}" if isinstance(value, float) and value < 1000 else f"{value:,.0f}"


def _signed(value: float) -> str:
    return "0" if not value else f"{'+' if value > 0 else '−'}{_number(abs(value))}"


def _numeric(text: str) -> bool:
    return text.strip("+−0123456789.,") == ""
