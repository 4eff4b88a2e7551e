"""Going on with a run: from which checkpoint, with which history, and what of its recipe may differ."""

import dataclasses
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from loops.data.dataset import Split
from loops.devices.throughput import Clock
from loops.recipes.recipe import Recipe
from loops.run import checkpoint
from loops.run.runs import Run
from tfcore.module import Module

# What the steps already done do not depend on, and what may be changed if it is asked for by name. With a field of the
# second kind changed, the run is no longer the one that its seed and its recipe repeat.
FREE = ("epochs", "steps_per_call", "keep_checkpoints", "checkpoint_steps")
ON_REQUEST = ("batch_size", "precision", "xla", "devices", "workers", "epochs")


@dataclasses.dataclass
class Progress:
    """How far a run is.

    Attributes:
        epoch, step: how many are done.
        examples: how many of the open epoch are.
    """

    epoch: int = 0
    step: int = 0
    examples: int = 0


@dataclasses.dataclass(frozen=True)
class Start:
    """What to go on from: a checkpoint and the history before it.

    Attributes:
        path: the checkpoint's file.
        arrays: its variables, by part and path.
        progress, controls, clock: where it was written, and the states of what it kept besides.
        history: the rows of the epochs before it.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    progress: Progress
    controls: dict[str, dict]
    clock: dict
    history: list[dict]


def changes(old: Recipe, new: Recipe) -> dict[str, tuple]:
    """Return {field: (old value, new value)} of all fields in which two recipes differ."""
    before, after = old.to_json(), new.to_json()
    pairs = {field: (before.get(field), after.get(field)) for field in before | after}
    return {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}


def same_setting(field: str, one: object, other: object) -> bool:
    """Return whether two recipes mean the same by a field: the official files may lie in any folder."""
    return one == other or (field == "data" and "sample" not in (one, other))


def _is_free(field: str, recipe: Recipe) -> bool:
    """Whether the steps done do not depend on a field. A cosine's learning rates do, on how long the run is."""
    return field in FREE and not (field == "epochs" and recipe.schedule == "cosine")


def check_changes(old: Recipe, new: Recipe, allowed: Collection[str]) -> None:
    """Refuse a recipe that would not go on with a run exactly, unless its change was asked for by name in `allowed`.

    Raises:
        ValueError: naming the field.
    """
    for field, (before, after) in changes(old, new).items():
        if _is_free(field, old) or same_setting(field, before, after) or (field in ON_REQUEST and field in allowed):
            continue
        hint = f", or ask for it by --allow-change {field}" if field in ON_REQUEST else ""
        raise ValueError(
            f"--resume goes on with the run's own recipe, but {field} would change from {before} to {after}: "
            f"leave it out, or start a new run by --out{hint}"
        )


def find_start(run: Run, report: Callable[[str], None]) -> Start | None:
    """Return what to go on from, or None for step 0: the run was stopped before its first checkpoint.

    Broken checkpoints, and a best one that is broken or missing, are named by `report`.

    Raises:
        CheckpointError: if there are checkpoints, all of them broken.
        ValueError: if the history is damaged or has lost epochs, or the checkpoints are gone.
    """
    history = run.read_history()
    if not checkpoint.any_step(run.checkpoints):
        # The first row is written before the first checkpoint; the second is not.
        if len(history) > 1:
            raise ValueError(
                f"{run.checkpoints}: the checkpoints of {len(history)} epochs are gone: put one back, or start a new "
                "run by --out"
            )
        report("no checkpoint yet: starting at step 0")
        return None
    path, arrays, meta, complaints = checkpoint.newest_intact(run.checkpoints)
    for complaint in complaints:
        report(f"skipped: {complaint}")
    if "clock" not in meta:  # of a version that kept the open epoch's seconds alone; 0 between epochs
        meta["examples"] = int(arrays["metrics/examples"]) if meta["seconds"] else 0
        meta["clock"] = Clock().state()
    meta["controls"].get("stopping", {}).pop("best_epoch", None)  # of a version that counted the best epoch twice
    # A row may be newer than the checkpoint, if the run was stopped between the two writes.
    kept = history[: meta["epoch"]]
    if len(kept) < meta["epoch"]:
        raise ValueError(
            f"{run.history}: holds {len(kept)} of the {meta['epoch']} epochs before {path.name}: put the whole file "
            "back, or start a new run by --out"
        )
    if meta["controls"]["best"]["best_epoch"]:
        try:
            checkpoint.load(run.best)
        except checkpoint.CheckpointError as error:
            report(f"warning: the best epoch's weights are lost until a better one ends: {error}")
    report(f"resumed after epoch {meta['epoch']}, step {meta['step']} ({path.name})")
    progress = Progress(meta["epoch"], meta["step"], meta["examples"])
    return Start(path, arrays, progress, meta["controls"], meta["clock"], kept)


def restore(parts: dict[str, Module], arrays: dict[str, np.ndarray], path: Path) -> None:
    """Assign a checkpoint's arrays to the parts; a loss scale that its precision did not have stays a fresh one.

    Raises:
        CheckpointError: for a checkpoint of another model.
    """
    scaled = any(name.startswith("loss_scale/") for name in arrays)
    checkpoint.restore({part: module for part, module in parts.items() if scaled or part != "loss_scale"}, arrays, path)


def fingerprint(split: Split) -> dict[str, int]:
    """Return what tells a train split from others, for the run's environment."""
    return {"labels_crc32": _crc32(split.labels), "inputs_crc32": _crc32(split.inputs)}


def _crc32(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data)


def check_fingerprint(environment: dict, found: dict[str, int], source: str) -> None:
    """Refuse another train split than the run's, which a moved folder or a new file may hold.

    Runs of before know their labels alone.

    Raises:
        ValueError: if the train labels or inputs are not those that the run began with.
    """
    for name, value in found.items():
        if environment.get(name, value) != value:
            what = name.partition("_")[0]
            raise ValueError(
                f"{source}: its train {what} are not those of {environment.get('data', 'the data')} that the run began "
                "with: give the same set by --data, or start a new run by --out"
            )


def record(run: Run, environment: dict, machine: dict, changed: dict[str, tuple], step: int) -> None:
    """Write the environment, and the run's recipe if it changed; `environment` then lists the changes and their step.

    `machine`: `runs.environment()` of this process, which may be another machine, or have other versions, than before.
    Stopped between the files, the run has noted a change that it did not make: the same command makes it.
    """
    pairs = {field: pair for field, pair in changed.items() if not _is_free(field, run.recipe)}
    pairs |= {name: (environment[name], new) for name, new in machine.items() if environment.get(name, new) != new}
    if pairs:
        entries = [f"{name} {old} -> {new} at step {step}" for name, (old, new) in pairs.items()]
        environment["changes"] = environment.get("changes", []) + entries
    environment |= machine
    if changed:
        (run.folder / "summary.json").unlink(missing_ok=True)  # it tells of the shorter run's end
    run.write_json("environment.json", environment)
    if changed:
        run.write_json("recipe.json", run.recipe.to_json())
