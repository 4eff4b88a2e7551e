"""Two programs side by side as parts of a page."""

from collections.abc import Sequence

from tfcore.inspect.pages import page
from tfcore.inspect.profile.differences import Side, difference_tables

SHOWN = 40  # rows before the rest is folded away


def difference_parts(one: Side, other: Side) -> list[str]:
    """Return the HTML of what differs: sums, then by layer, phase and line, then kernel by kernel."""
    parts = []
    for title, (header, *rows) in difference_tables(one, other):
        parts += [page.heading(title), _table(header, rows[:SHOWN])]
        if len(rows) > SHOWN:
            parts.append(page.folded(f"{len(rows) - SHOWN:,} more", [_table(header, rows[SHOWN:])]))
    return parts


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return page.table(header, rows)
