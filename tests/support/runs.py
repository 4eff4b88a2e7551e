"""Runs of the tiny data set: how tests make one, and all that must be equal where a run is repeated or resumed."""

from pathlib import Path

import numpy as np

from loops import recipes
from loops.devices.throughput import COLUMNS
from loops.run import checkpoint
from loops.run.runs import Run
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()
SETTINGS = [("data", "sample"), ("epochs", "3"), ("batch_size", "32"), ("xla", "off")]
NARROW = [("filters", "3,5,7"), ("units", "8")]  # a ConvNet that is traced in half a second


def new_run(folder: Path, *settings: tuple[str, str], recipe: str = "convnet_cifar10") -> Run:
    """A run of three epochs of three steps, unless `settings` say otherwise."""
    sizes = NARROW if recipe == "convnet_cifar10" else []
    return Run.create(folder, recipes.get(recipe).changed([*SETTINGS, *sizes, *settings]))


def state(run: Run) -> tuple:
    """All that must be equal: weights, slots, counters, and the history but for its times."""
    _, arrays, progress, complaints = checkpoint.newest_intact(run.checkpoints)
    assert not complaints
    best, best_progress = checkpoint.load(run.best)
    history = [{name: value for name, value in row.items() if name not in COLUMNS} for row in run.read_history()]
    return arrays, best, progress | {"clock": 0}, best_progress | {"clock": 0}, history


def assert_same_state(found: tuple, expected: tuple) -> None:
    """Compare what `state` returns, bit by bit."""
    for ours, theirs in zip(found, expected, strict=True):
        if isinstance(ours, dict) and all(isinstance(value, np.ndarray) for value in ours.values()):
            assert ours.keys() == theirs.keys()
            for name, value in ours.items():
                np.testing.assert_array_equal(value, theirs[name], name)
        else:
            assert ours == theirs


def outcome(run: Run) -> tuple[dict, dict]:
    """All that a run has come to, but for its times: (arrays of newest and best checkpoint, everything else)."""
    _, arrays, meta, complaints = checkpoint.newest_intact(run.checkpoints)
    best, best_meta = checkpoint.load(run.best)
    summary = run.read_json("summary.json")
    rows = [*run.read_history(), summary.pop("last"), summary.pop("best")]
    other = {
        "complaints": complaints,
        "meta": [{k: v for k, v in one.items() if k != "clock"} for one in (meta, best_meta)],
        "rows": [{k: v for k, v in row.items() if k not in COLUMNS} for row in rows],
        "summary": {k: v for k, v in summary.items() if k != "seconds"},
        "environment": run.read_json("environment.json"),
        "recipe": run.recipe,
        "files": sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*")),
    }
    return {f"last {k}": v for k, v in arrays.items()} | {f"best {k}": v for k, v in best.items()}, other
