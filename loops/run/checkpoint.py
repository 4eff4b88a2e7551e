"""Checkpoints: one .npz file each, written aside and renamed, checked when read.

A file holds every variable under '<part>/<path>' ("model/involutions/0/reduce/kernel") and the entry `meta`, JSON
text. It is an ordinary zip of arrays: `numpy.load` shows it, and the zip's CRC finds a flipped bit.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from loops.run import disk
from tfcore.module import Module

META = "meta"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another model; the message says which file and what to do."""


def capture(parts: dict[str, Module]) -> dict[str, np.ndarray]:
    """Return copies of all variables of the parts by '<part>/<path>'."""
    return {
        f"{part}/{path}": variable.numpy()
        for part, module in parts.items()
        for path, variable in module.named_variables().items()
    }


def restore(parts: dict[str, Module], arrays: dict[str, np.ndarray], source: Path | str) -> None:
    """Assign the arrays to the parts' variables; nothing is assigned unless every one fits.

    Raises:
        CheckpointError: for a missing array or one of another shape or dtype.
    """
    targets = {
        f"{part}/{path}": variable
        for part, module in parts.items()
        for path, variable in module.named_variables().items()
    }
    for name, variable in targets.items():
        if name not in arrays:
            raise CheckpointError(f"{source}: holds no {name}: it was written for another model")
        found, wanted = arrays[name], variable
        if found.shape != tuple(wanted.shape) or found.dtype != wanted.dtype.as_numpy_dtype:
            raise CheckpointError(
                f"{source}: {name} is {found.dtype} {found.shape}, the model needs {wanted.dtype.name} "
                f"{tuple(wanted.shape)}: it was written for another model"
            )
    for name, variable in targets.items():
        variable.assign(arrays[name])


def check_finite(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Refuse arrays that no training can go on from.

    Raises:
        FloatingPointError: naming the first that holds a NaN or an infinity, and the `path` that is not written.
    """
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise FloatingPointError(
                f"{name} holds a NaN or an infinity: {path} is not written, the earlier checkpoints are kept; try a "
                "lower learning_rate or --precision float32"
            )


def save(path: Path, arrays: dict[str, np.ndarray], meta: dict) -> None:
    """Write a checkpoint so that `path` holds either its old content or all of the new one, whatever happens.

    Raises:
        OSError: when the disk is full or the folder cannot be written; `path` is untouched.
    """
    entries: dict[str, Any] = {**arrays, META: np.array(json.dumps(meta))}
    disk.write_atomically(path, lambda file: np.savez(file, **entries))


def load(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Return (arrays, meta) of a checkpoint, all of it checked by its CRC.

    Raises:
        CheckpointError: if the file is missing, truncated or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # First: NumPy reads an array's shape and dtype before the CRC of its entry has been seen.
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{damaged} does not have its CRC")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop(META)))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise CheckpointError(f"{path}: damaged or no checkpoint ({error}); delete it or use an older one") from error
    return arrays, meta


def newest_intact(folder: Path) -> tuple[Path, dict[str, np.ndarray], dict, list[str]]:
    """Return (path, arrays, meta, complaints) of the newest readable step checkpoint; complaints name broken ones.

    Raises:
        CheckpointError: if there is none.
    """
    complaints: list[str] = []
    for path in sorted(folder.glob("step-*.npz"), reverse=True):
        try:
            return path, *load(path), complaints
        except CheckpointError as error:
            complaints.append(str(error))
    raise CheckpointError(
        "; ".join(complaints) or f"{folder}: no checkpoint yet: go on with the training by train.py --resume"
    )


def step_path(folder: Path, step: int) -> Path:
    """The name of the checkpoint after `step` steps; names sort by step."""
    return folder / f"step-{step:09d}.npz"


def any_step(folder: Path) -> bool:
    """Return whether there is a step checkpoint, intact or not."""
    return any(folder.glob("step-*.npz"))


def prune(folder: Path, keep: int, *, newest: Path) -> None:
    """Delete all step checkpoints but the `keep` that end with `newest`.

    Later ones are those that a resumed run passed over as broken: if they counted, they would push out intact ones.
    """
    paths = sorted(folder.glob("step-*.npz"))
    kept = [path for path in paths if path <= newest][-keep:]
    for path in paths:
        if path not in kept:
            path.unlink()
