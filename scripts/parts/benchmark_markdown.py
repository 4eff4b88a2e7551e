"""benchmark.py's results as one table of Markdown: each precision beside Keras's, and ours beside Keras's float32."""

import os
import shlex
import sys
from datetime import date


def markdown(entries: list[dict], about: str) -> str:
    """Return a table with a row for each step that was timed, `about` (when, where, by which command) above it.

    entries: as `--json` writes them, with Keras's side.
    """
    from loops.studies.results.costs import step_table

    lines = step_table(entries)
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join([about, "", *("| " + " | ".join(cells) + " |" for cells in lines), ""])


def measured(turns: int) -> str:
    """Return when, on which processor and by which command a table is measured, in one line."""
    from loops.run.runs import device

    command = shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]])
    return f"Measured {date.today()} on {os.cpu_count()} cores of {device()}, {turns} turns of each: `{command}`"
