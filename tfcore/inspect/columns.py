"""Tables for a terminal: rows of texts in aligned columns."""

from collections.abc import Callable, Sequence


def aligned(rows: Sequence[Sequence[str]], to_the_right: Callable[[int, str], bool]) -> list[str]:
    """Return each row as a line, columns two blanks apart; to_the_right(column, cell): whether a cell is a number."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if to_the_right(column, cell) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
