"""benchmark.py's results as one table of Markdown: each precision beside Keras's, and ours beside Keras's float32."""

import os
import shlex
import sys
from datetime import date

PRECISIONS = ("float32", "mixed_bfloat16")  # of --precision both


def markdown(entries: list[dict], about: str) -> str:
    """Return a table with a row for each step that was timed, `about` (when, where, by which command) above it.

    entries: as `--json` writes them, with Keras's side. The last column is ours in mixed_bfloat16 over Keras in
    float32, what most people run; its medians come from two races, so that it is rougher than the ratios beside it.
    """
    rows: dict[tuple, dict[str, dict]] = {}
    for entry in entries:
        step = (entry["recipe"], entry["variant"], entry["batch_size"], entry.get("augmentation", ""))
        rows.setdefault(step, {})[entry["precision"]] = entry
    precisions = [name for name in PRECISIONS if any(name in row for row in rows.values())]
    header = ["step", *(column for name in precisions for column in (f"{name}: ours / Keras, ms", "ratio", "peak, MB"))]
    crossed = len(precisions) == len(PRECISIONS)
    lines = [header + ["ours bfloat16 / Keras float32"] * crossed]
    for step, row in rows.items():
        cells = [_title(*step)]
        for name in precisions:
            cells += _cells(row[name]) if name in row else ["", "", ""]
        if crossed:
            whole, half = (row.get(name) for name in PRECISIONS)
            cells.append(f"{whole['keras_ms'] / half['ours_ms']:.2f}" if whole and half else "")
        lines.append(cells)
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join([about, "", *("| " + " | ".join(cells) + " |" for cells in lines), ""])


def _title(recipe: str, variant: str, batch_size: int, augmentation: str) -> str:
    parts = [f"{recipe}, batch {batch_size:,}"]
    parts += ["without augmentation"] if augmentation == "none" else []
    parts += [f"`{variant}`"] if variant != "ours" else []
    return ", ".join(parts)


def _cells(entry: dict) -> list[str]:
    return [
        f"{entry['ours_ms']:.1f} / {entry['keras_ms']:.1f}",
        f"**{entry['ratio']:.2f}** ({entry['low']:.2f} .. {entry['high']:.2f})",
        f"{entry['ours_peak_mb']:,.0f} / {entry['keras_peak_mb']:,.0f}",
    ]


def measured(turns: int) -> str:
    """Return when, on which processor and by which command a table is measured, in one line."""
    from loops.run.runs import device

    command = shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]])
    return f"Measured {date.today()} on {os.cpu_count()} cores of {device()}, {turns} turns of each: `{command}`"
