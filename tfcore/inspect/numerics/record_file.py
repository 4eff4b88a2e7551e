"""A step's record as a file (.npz, no pickle): two machines or versions are compared by carrying it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tfcore.inspect.numerics.recording import KINDS, Record

VERSION = 1  # of the file's format
_ABOUT = "about"


def save_record(path: Path, record: Record, about: dict) -> None:
    """Write a record and what is to be known about it (JSON values)."""
    arrays: dict[str, Any] = {
        f"{kind}:{name}": value for kind in KINDS for name, value in getattr(record, kind).items()
    }
    text = json.dumps({"version": VERSION, "dtypes": record.dtypes, "about": about})
    with path.open("wb") as file:  # savez would add .npz to another name
        np.savez_compressed(file, **(arrays | {_ABOUT: np.array(text)}))


def load_record(path: Path) -> tuple[Record, dict]:
    """Return a saved record and what is known about it.

    Raises:
        ValueError: for a file that is no record, is damaged, or has another version of the format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
            head = json.loads(str(arrays.pop(_ABOUT)))
            version = head["version"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no record of a step ({error}): make one by --save") from None
    if version != VERSION:
        raise ValueError(f"{path}: version {version} of the format, and this is {VERSION}: save it anew with this one")
    kinds: dict[str, dict] = {kind: {} for kind in KINDS}
    for name, value in arrays.items():
        kind, _, rest = name.partition(":")
        kinds[kind][rest] = value
    return Record(**kinds, dtypes=head["dtypes"]), head["about"]
