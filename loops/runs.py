"""The run folder: recipe.json, environment.json, history.csv, summary.json, checkpoints/, figures/."""

import csv
import io
import json
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import tensorflow as tf

from loops import checkpoint, recipes
from loops.data.dataset import Sizes
from loops.recipes.recipe import Recipe


class Run:
    """One run's folder. `create` makes a new one, `open` reads an old one; methods read and write its files."""

    def __init__(self, folder: Path, recipe: Recipe):
        self.folder, self.recipe = folder, recipe

    @staticmethod
    def check_new(folder: Path) -> None:
        """Raise ValueError unless `folder` is free for a new run: absent or an empty folder."""
        if (folder / "recipe.json").exists():
            raise ValueError(f"{folder} holds a run already: go on with it by --resume, or name a new folder by --out")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists and is no empty folder: name a new one by --out")

    @classmethod
    def create(cls, folder: Path, recipe: Recipe) -> "Run":
        """Make the folder of a new run.

        Raises:
            ValueError: if the folder is a file or holds anything already.
            OSError: if it cannot be made.
        """
        cls.check_new(folder)
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
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

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, whole or not at all."""
        text = json.dumps(value, indent=2) + "\n"
        checkpoint.write_atomically(self.folder / name, lambda file: file.write(text.encode()))

    def read_json(self, name: str) -> dict:
        """Read a JSON file of the folder."""
        return json.loads((self.folder / name).read_text())

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

    def _of_training(self, name: str) -> list:
        environment = self.read_json("environment.json")
        if name not in environment:
            raise ValueError(f"{self.folder}: its training never began: nothing to evaluate")
        return environment[name]

    def write_history(self, rows: list[dict]) -> None:
        """Write history.csv with a row an epoch, whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        checkpoint.write_atomically(self.folder / "history.csv", lambda file: file.write(text.getvalue().encode()))

    def read_history(self) -> list[dict]:
        """Return the rows of history.csv, numbers as numbers; [] before the first epoch has ended.

        Raises:
            ValueError: for a damaged file.
        """
        path = self.folder / "history.csv"
        if not path.exists():
            return []
        try:
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file))
            return [{name: _number(text) for name, text in row.items()} for row in rows]
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error}): the checkpoints are not; move the file away") from error


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def environment() -> dict:
    """Versions, device and commit of this process, for environment.json."""
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpus": [details.get("device_name", "unknown") for details in gpus],
        "commit": _commit(),
    }


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
