"""The tables in the pages: README.md shows one, the results page all others.

A page marks a table by `<!-- table NAME -->` above and `<!-- end of table -->` below. What stands between is replaced.
"""

import re
from collections.abc import Callable

from loops.studies.results import accuracy, best, costs
from loops.studies.results.files import RESULTS, ROOT, Table

PAGES = (ROOT / "README.md", RESULTS / "README.md")
# Name -> what makes the table, and how its columns are aligned: l to the left, r to the right.
TABLES: dict[str, tuple[Callable[[], Table], str]] = {
    "systems": (accuracy.systems, "lllrll"),
    "cifar10": (accuracy.cifar10, "lrlllrl"),
    "cifar100": (accuracy.cifar100, "lrllrrl"),
    "cifar100-reduced": (accuracy.cifar100_reduced, "lrllr"),
    "forda": (accuracy.forda, "lrlrl"),
    "seven-sets": (accuracy.seven_sets, "llllll"),
    "cnn-published": (accuracy.cnn_published, "lllll"),
    "cnn-explained": (accuracy.cnn_explained, "lllll"),
    "best": (best.outcomes, "lrrlllrr"),
    "tried": (best.tried, "llrrrl"),
    "ablations": (best.ablations, "llrrr"),
    "train-steps": (costs.train_steps, "lrlrrlrr"),
    "dead-branch": (costs.dead_branch, "lrrl"),
    "parity": (costs.parity, "lllll"),
    "numerics": (costs.numerics, "llllrr"),
}

_MARKED = re.compile(r"<!-- table ([\w-]+) -->\n.*?<!-- end of table -->\n", re.DOTALL)


def with_tables(page: str) -> str:
    """Return a page's text with every marked table made anew from the files.

    Raises:
        ValueError: for a mark that names no table.
    """

    def made(mark: re.Match) -> str:
        name = mark[1]
        return f"<!-- table {name} -->\n{_text(name)}\n<!-- end of table -->\n"

    return _MARKED.sub(made, page)


def _text(name: str) -> str:
    if name == "certificates":
        return accuracy.certificates()
    if name not in TABLES:
        raise ValueError(f"no table {name!r}; known: certificates, {', '.join(TABLES)}")
    make, marks = TABLES[name]
    heads, *rows = make()
    if any(len(row) != len(marks) for row in (heads, *rows)):
        raise ValueError(f"table {name}: its {len(heads)} columns and the {len(marks)} marks {marks!r} do not fit")
    rule = [{"l": "---", "r": "---:"}[mark] for mark in marks]
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (heads, rule, *rows))
