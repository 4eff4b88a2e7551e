"""Reading `loops/recipes/results`, and how its numbers are written."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from loops.recipes import published
from loops.studies.study import mean_and_spread

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "loops" / "recipes" / "results"

Table = list[list[str]]  # the heads, then the rows

# Published test accuracy, its top-5, and parameters of the two large systems.
LARGE = {"vit_cifar100": (0.5514, 0.8186, 21_759_012), "perceiver_cifar100": (0.5264, 0.8087, 9_697_637)}


def published_accuracy(file: str) -> float:
    """Return the last validation accuracy of a published run."""
    return _published_history(file)[-1]["val_accuracy"]


def published_epochs(file: str) -> int:
    """Return how many epochs a published run has."""
    return len(_published_history(file))


def _published_history(file: str) -> list[dict[str, float]]:
    return next(run.history() for run in published.RUNS if run.file == file)


def summary(run: str) -> dict:
    """Return a run's summary.json."""
    return json.loads((RESULTS / run / "summary.json").read_text())


def rows_of(name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def entries_of(name: str) -> list[dict]:
    """Return the entries of a JSON file that holds a list."""
    return json.loads((RESULTS / name).read_text())


def fastest_epoch(runs: Sequence[str]) -> str:
    """Return the seconds of the fastest epoch of all the runs."""
    return f"{min(float(row['seconds']) for run in runs for row in rows_of(f'{run}/history.csv')):.1f}"


def percent(share: float) -> str:
    """Return 0.5514 as 55.14 %."""
    return f"{100 * share:.2f} %"


def mean(values: Sequence[float]) -> str:
    """Return the mean, with its standard deviation where there are several values."""
    middle, spread = mean_and_spread(list(values))
    return f"{middle:.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def quartiles(low: str, high: str) -> str:
    """Return (low .. high)."""
    return f"({low} .. {high})"
