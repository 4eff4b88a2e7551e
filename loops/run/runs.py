"""The run folder: recipe.json, environment.json, history.csv, summary.json, checkpoints/, figures/, .lock."""

import contextlib
import csv
import io
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from loops import recipes
from loops.data.dataset import Dataset, Sizes
from loops.devices.allocator import allocator
from loops.recipes.recipe import Recipe
from loops.run import disk


class Run:
    """One run's folder. `create` makes a new one, `open` reads an old one; methods read and write its files."""

    def __init__(self, folder: Path, recipe: Recipe):
        self.folder, self.recipe = folder, recipe

    @staticmethod
    def check_new(folder: Path) -> None:
        """Raise ValueError unless `folder` is free for a new run: absent or an empty folder."""
        if (folder / "recipe.json").exists():
            raise ValueError(f"{folder} holds a run already: go on with it by --resume, or name a new folder by --out")
        if folder.exists() and (not folder.is_dir() or not _only_begun(folder)):
            raise ValueError(f"{folder} exists and is no empty folder: name a new one by --out")

    @classmethod
    def create(cls, folder: Path, recipe: Recipe) -> "Run":
        """Make the folder of a new run.

        Raises:
            ValueError: if the folder is a file or holds anything already, or if another process is at work in it.
            OSError: if it cannot be made.
        """
        cls.check_new(folder)
        with sole_owner(folder):
            cls.check_new(folder)  # again: the lock's last owner may have made it a run
            (folder / "checkpoints").mkdir(exist_ok=True)
            run = cls(folder, recipe)
            run.write_json("environment.json", environment())
            run.write_json("recipe.json", recipe.to_json())  # last: its presence says that the folder is a run
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Read an existing run.

        Raises:
            ValueError: if the folder holds no run, or one of an unknown recipe.
        """
        path = folder / "recipe.json"
        if not path.is_file() and folder.is_dir() and any(folder.iterdir()) and _only_begun(folder):
            raise ValueError(f"{folder}: no run there yet: start it without --resume, again if it was stopped at once")
        if not path.is_file():
            raise ValueError(f"{folder}: no run there (no recipe.json): give the --out folder of a training")
        try:
            values = json.loads(path.read_text())
            recipe = recipes.get(str(values["name"])).from_json(values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error}): start the run anew in another folder") from error
        return cls(folder, recipe)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.checkpoints / "best.npz"

    @property
    def history(self) -> Path:
        """The table with a row an epoch."""
        return self.folder / "history.csv"

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, whole or not at all."""
        text = json.dumps(value, indent=2) + "\n"
        disk.write_text(self.folder / name, text)

    def read_json(self, name: str) -> dict:
        """Read a JSON file of the folder.

        Raises:
            ValueError: for a missing or damaged file.
        """
        path = self.folder / name
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: missing or damaged ({error}): put it back, or start a new run") from error

    def class_names(self) -> list[str]:
        """The names of the classes that the run was trained on.

        Raises:
            ValueError: if the training never began.
        """
        return self._of_training("class_names")

    def sizes(self) -> Sizes:
        """The sizes of the data that the run was trained on.

        Raises:
            ValueError: if the training never began.
        """
        return Sizes(tuple(self._of_training("input_shape")), len(self.class_names()))

    def check_data(self, dataset: Dataset) -> None:
        """Refuse data of another kind than the run was trained on: other classes, or inputs of another shape.

        Raises:
            ValueError: naming both sides; or if the training never began.
        """
        names, sizes = self.class_names(), self.sizes()
        if list(dataset.class_names) != names or dataset.sizes != sizes:
            raise ValueError(
                f"{self.folder}: trained on classes {_some(names)} and inputs {sizes.input_shape}, but "
                f"{dataset.source} has classes {_some(dataset.class_names)} and inputs {dataset.sizes.input_shape}: "
                "give the set that the run was trained on by --data"
            )

    def _of_training(self, name: str) -> list:
        environment = self.read_json("environment.json")
        if name not in environment:
            raise ValueError(f"{self.folder}: its training never began: nothing to evaluate")
        return environment[name]

    def write_history(self, rows: list[dict]) -> None:
        """Write history.csv with a row an epoch, whole or not at all.

        Columns stand in the order of the newest row, those that only older rows have after them; a cell is empty where
        a row knows no such column (the run went on with another version, or with another precision).
        """
        columns = list(dict.fromkeys(name for row in reversed(rows) for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        disk.write_text(self.history, text.getvalue())

    def read_history(self) -> list[dict]:
        """Return the rows of history.csv, numbers as numbers, without empty cells; [] before the first epoch has ended.

        Raises:
            ValueError: for a damaged file.
        """
        if not self.history.exists():
            return []
        try:
            with open(self.history, newline="") as file:
                rows = list(csv.DictReader(file))
            rows = [{name: _number(text) for name, text in row.items() if text != ""} for row in rows]
            if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
                raise ValueError("its epochs do not count 1, 2, 3 and so on")
            return rows
        except (AttributeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{self.history}: damaged ({error}): put the whole file back, or start a new run by --out"
            ) from error


def _some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


@contextlib.contextmanager
def sole_owner(folder: Path, what: str = "run") -> Iterator[None]:
    """Hold the folder's lock: two processes at one run or study would write over each other.

    Raises:
        ValueError: if another process holds it.
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
        raise ValueError(f"{folder}: another process is at work on this {what}: wait for it, or stop it") from None

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(disk.locked(folder / ".lock", refuse))
        except OSError as error:
            raise OSError(
                error.errno, f"cannot write into {folder}: {error.strerror}: mend that, or copy it"
            ) from error
        yield


def _only_begun(folder: Path) -> bool:
    """Whether a folder holds no more than a `Run.create` that was killed may leave: nothing that anyone would miss."""
    first = {".lock", "checkpoints", "environment.json"}
    named = all(path.name in first or path.suffix == ".partial" for path in folder.iterdir())
    return named and not any((folder / "checkpoints").glob("*"))


def environment() -> dict:
    """Versions, device and commit of this process, for environment.json."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "allocator": allocator(),
        "gpus": _gpus(),
        "commit": _commit(),
    }


def device() -> str:
    """The name of what computes: the GPUs, or, where TensorFlow has none, the CPU."""
    return ", ".join(_gpus()) or _cpu_model()


def _gpus() -> list[str]:
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return [found.get("device_name", "unknown") for found in details]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _commit() -> str | None:
    """The commit of the checkout this file lies in, with '+' where files differ from it; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes.strip() else "")
