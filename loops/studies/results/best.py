"""Tables of the best recipes: what was tried on the way, by validation alone, and what came out."""

import dataclasses
import json
from collections.abc import Sequence

from loops.studies.changes import cells_of
from loops.studies.results.files import LARGE, RESULTS, Table, mean, published_accuracy, rows_of, summary


@dataclasses.dataclass(frozen=True)
class Pair:
    """A best recipe and its faithful one: the latter's runs, its published test accuracy and its parameters."""

    best: str
    faithful: str
    runs: str
    published: float
    parameters: int


# The CNN's published figure is the chapter's best row, batch norm.
PAIRS = (
    Pair("inn_cifar10_best", "inn_cifar10", "inn_cifar10-seed*", published_accuracy("inn_cifar10"), 13_080),
    Pair("cnn_cifar10_best", "cnn_cifar10", "cnn_cifar10-batch_norm", 0.778, 356_810),
    Pair("vit_cifar100_best", "vit_cifar100", "vit_cifar100", LARGE["vit_cifar100"][0], LARGE["vit_cifar100"][2]),
    Pair("vit_cifar100_best_large", "vit_cifar100", "vit_cifar100", LARGE["vit_cifar100"][0], LARGE["vit_cifar100"][2]),
)


def outcomes() -> Table:
    """The best recipes that have been trained, each seed's test split looked at once."""
    rows = []
    for pair in PAIRS:
        runs = runs_of(f"{pair.best}-seed*")
        if not runs:
            continue
        own = [summary(run) for run in runs]
        rows.append(
            [
                f"`{pair.best}`",
                f"{own[0]['parameters']:,} of {pair.parameters:,}",
                f"{pair.published:.4f}",
                f"{mean([run['best']['val_accuracy'] for run in own])} ({_seeds(runs)})",
                mean([look(run, None) for run in runs]),
                mean([look(run, "mirror") for run in runs]),
                _seconds(runs, pair.published),
                _seconds(runs_of(pair.runs), pair.published),
            ]
        )
    heads = ["recipe", "parameters", "published (faithful)", "validation", "test", "test, mirrored views"]
    return [[*heads, "s to the published figure", "faithful recipe's"], *rows]


def best_of(faithful: str) -> str:
    """What the best recipes beside a faithful one reach on the test split; nothing where none has been trained."""
    reached = []
    for pair in PAIRS:
        runs = runs_of(f"{pair.best}-seed*")
        if pair.faithful == faithful and runs:
            reached.append(outcome([look(run, None) for run in runs], summary(runs[0])["parameters"]))
    return ", ".join(reached)


def outcome(accuracies: Sequence[float], parameters: int) -> str:
    """A best recipe's test accuracy over its seeds, and its size."""
    return f"{mean(accuracies)} ({_seeds(accuracies)}; {parameters:,} parameters)"


def runs_of(pattern: str) -> list[str]:
    """Return the names of the runs in the results whose folders a pattern names."""
    return sorted(path.parent.name for path in RESULTS.glob(f"{pattern}/summary.json"))


def look(run: str, tta: str | None) -> float:
    """Return the test accuracy at the first look with these views.

    Raises:
        ValueError: if there was no such look.
    """
    for entry in json.loads((RESULTS / run / "test.json").read_text())["looks"]:
        if entry["tta"] == tta:
            return entry["accuracy"]
    raise ValueError(f"{RESULTS / run / 'test.json'} tells of no look with tta={tta}")


def seconds_to(history: Sequence[dict[str, str]], accuracy: float) -> float | None:
    """Return the seconds, validation's too, until an epoch ends with this validation accuracy; None if none does."""
    seconds = 0.0
    for row in history:
        seconds += float(row["seconds"])
        if float(row["val_accuracy"]) >= accuracy:
            return seconds
    return None


def _seeds(runs: Sequence) -> str:
    return "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"


def _seconds(runs: Sequence[str], accuracy: float) -> str:
    """The fastest and the slowest of the runs, and how many never get there."""
    found = [seconds_to(rows_of(f"{run}/history.csv"), accuracy) for run in runs]
    there = sorted(round(seconds) for seconds in found if seconds is not None)
    if not there:
        return "never" if runs else "not trained"
    span = f"{there[0]:,}" if there[0] == there[-1] else f"{there[0]:,} to {there[-1]:,}"
    missing = len(found) - len(there)
    return f"{span} ({missing} of {len(found)} never)" if missing else span


def tried() -> Table:
    """Every change that was tried, those that did not help, too."""
    rows = []
    for row in rows_of("best/tried.csv"):
        before, after = float(row["before"]), float(row["after"])
        how = f"{row['epochs']} epochs of {int(row['train_images']):,}, seeds: {row['seeds']}"
        rows.append(
            [f"`{row['recipe']}`", row["change"], f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}", how]
        )
    return [["recipe", "change", "validation before", "after", "difference", "trained"], *rows]


def ablations() -> Table:
    """Each ingredient of a recipe taken away once, as `study_recipe.py --json` wrote it down."""
    rows = []
    for path in sorted(RESULTS.glob("best/*-ablation.json")):
        recipe, *dataset = path.name.removesuffix("-ablation.json").split("-")
        name = ", ".join([f"`{recipe}`", *dataset])
        rows += [[name, *cells] for cells in cells_of(json.loads(path.read_text()))]
    return [["recipe", "change", "validation, last epoch", "difference", "loss"], *rows]
