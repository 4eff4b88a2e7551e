"""Many runs under one folder: rows (recipes) times seeds, one after the other, resumed where they were stopped.

Each run is an ordinary run folder, STUDY/ROW/seed-N, that train.py, evaluate.py and visualize.py know, too.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from loops import data
from loops.data.dataset import Dataset
from loops.learner import prepare
from loops.recipes.recipe import Recipe
from loops.run import checkpoint
from loops.run.resume import same_setting
from loops.run.runs import Run, sole_owner
from loops.train import train

# What a run that was killed in its first epoch leaves: nothing to go on with, and nothing that anyone would miss.
FIRST_FILES = {"recipe.json", "environment.json", "history.csv", "checkpoints", ".lock"}

PlannedRun = tuple[str, Recipe, Path]  # row, recipe, run folder


@dataclasses.dataclass(frozen=True)
class Result:
    """What is known of one run: its history so far, its summary once it has ended, and where it was trained."""

    row: str
    recipe: Recipe
    folder: Path
    history: list[dict]
    summary: dict | None
    environment: dict

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: all epochs, or early stopping; and, where a share of the train split chose
        the epoch and the test split is not held back, a look at the test split, which needs that epoch's weights.
        """
        looks = bool(self.recipe.validation) and not self.recipe.hold_test
        return self.summary is not None and (not looks or "test" in self.summary)


def plan(folder: Path, rows: dict[str, Recipe], seeds: Sequence[int]) -> list[PlannedRun]:
    """Return all runs of a study, the first seed of every row first.

    Raises:
        ValueError: if a run folder is there already but was made by other settings; names the field.
    """
    found = []
    for seed in seeds:
        for row, recipe in rows.items():
            recipe = dataclasses.replace(recipe, seed=seed)
            place = folder / row / f"seed-{seed}"
            if (place / "recipe.json").exists():
                _check_same(place, Run.open(place).recipe, recipe)
            found.append((row, recipe, place))
    return found


def run_all(
    folder: Path,
    runs: Sequence[PlannedRun],
    *,
    report: Callable[[str], None] = lambda line: None,
    ended: Callable[[Result], None] = lambda result: None,
) -> None:
    """Train every run of `plan` that has not ended, one at a time.

    `report` is called with lines of text, `ended` with each run that has come to its end.

    Raises:
        ValueError: what the recipes, the data or the run folders refuse, before anything is trained or written; or if
            another process is at work in `folder`.
        Interrupted: after Ctrl-C or SIGTERM; the next call goes on exactly there.
    """
    datasets: dict[tuple, Dataset] = {}

    def dataset_of(recipe: Recipe) -> Dataset:
        place = (recipe.dataset, recipe.data, recipe.exchange_splits, recipe.repair)
        if place not in datasets:
            datasets[place] = data.of_recipe(recipe)
        return datasets[place]

    def still_open() -> list[PlannedRun]:
        return [run for run in runs if not (run[2] / "summary.json").exists()]

    for recipe in {dataclasses.replace(recipe, seed=0) for _, recipe, _ in still_open()}:
        prepare(recipe, dataset_of(recipe))  # what a later row would refuse, it refuses before the first is trained
    for _, _, place in still_open():
        if not _begun(place):
            _check_nothing_lost(place)
    with sole_owner(folder, "study"):
        open_runs = still_open()  # again: the lock's last owner may have ended some
        measured: dict[str, str] = {}  # xla "auto" is measured by the first run alone, and holds for all of them
        for number, (row, recipe, place) in enumerate(open_runs, start=1):
            begun = _begun(place)
            verb = "going on with" if begun else "starting"
            report(f"{number}/{len(open_runs)}: {verb} {row}, seed {recipe.seed} ({place})")
            run = Run.open(place) if (place / "recipe.json").exists() else Run.create(place, recipe)
            if not begun and recipe.xla == "auto":
                with sole_owner(place):  # which train.py may be training in at this moment
                    run.write_json("environment.json", run.read_json("environment.json") | measured)
            train(run, dataset_of(recipe), resume=True, report=report)
            if not begun and recipe.xla == "auto" and not measured:
                measured = {"xla": run.read_json("environment.json")["xla"], "xla_measured_by": str(place)}
            ended(*results([(row, recipe, place)]))


def results(runs: Sequence[PlannedRun]) -> list[Result]:
    """Return what is known so far of each run of `plan` that has ended an epoch."""
    found = []
    for row, recipe, folder in runs:
        run = Run(folder, recipe)
        history = run.read_history()
        if history:
            summary = run.read_json("summary.json") if (folder / "summary.json").exists() else None
            found.append(Result(row, recipe, folder, history, summary, run.read_json("environment.json")))
    return found


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the standard deviation over seeds (n − 1 in the denominator; None for a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _begun(folder: Path) -> bool:
    return checkpoint.any_step(folder / "checkpoints")


def _check_nothing_lost(folder: Path) -> None:
    """Refuse a folder without checkpoints that holds more than the first files of a run."""
    found = {path.name for path in folder.iterdir() if path.suffix != ".partial"} if folder.exists() else set()
    foreign = sorted(found - FIRST_FILES)
    if foreign:
        raise ValueError(f"{folder} holds {foreign[0]}, but no checkpoint to go on with: move the folder away")


def _check_same(folder: Path, found: Recipe, wanted: Recipe) -> None:
    theirs, ours = found.to_json(), wanted.to_json()
    for field, value in ours.items():
        if not same_setting(field, theirs[field], value):
            raise ValueError(
                f"{folder} was made by other settings: its {field} is {theirs[field]}, now it would be {value}: "
                "repeat the settings, or name another folder by --out"
            )
