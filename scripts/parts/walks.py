"""What `walk.py` follows: examples, and models with the weights of checkpoints or fresh ones."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loops import data, recipes
from loops.data.dataset import Dataset
from loops.learner import splits
from loops.made_up import made_up_dataset, made_up_step
from loops.recipes.recipe import Recipe, nearest
from loops.run import checkpoint
from loops.run.restore import fresh_model, restored_model
from loops.run.runs import Run
from parts.inputs import inputs_of
from tfcore.inspect.profile.step_profile import profile_step
from tfcore.inspect.walk.stops import Stop

if TYPE_CHECKING:
    from tfcore.module import Module


@dataclasses.dataclass(frozen=True)
class Example:
    """One input (1, ...) as stored, and its label; None: not known, as of a picture of one's own."""

    about: str
    inputs: np.ndarray
    label: int | None


class Subject:
    """A run, or (run None) a recipe with fresh weights; `source` is other data than the recipe's."""

    def __init__(self, what: str, source: str | None):
        self.run: Run | None = None
        if what in recipes.RECIPES:
            recipe = recipes.get(what)
        elif Path(what).exists():
            self.run = Run.open(Path(what))
            recipe = self.run.recipe
        else:
            raise ValueError(f"{what}: neither a run folder nor a recipe{nearest(what, recipes.RECIPES)}")
        self.what = what
        self.recipe: Recipe = recipe if source is None else recipe.changed([("data", source)])

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's data. Raises ValueError where they are of another kind than the run was trained on."""
        found = data.of_recipe(self.recipe)
        if self.run is not None and found.sizes != self.run.sizes():
            raise ValueError(
                f"{self.run.folder}: trained on inputs {self.run.sizes().input_shape} of "
                f"{self.run.sizes().classes} classes, but {found.source} has {found.sizes.input_shape} of "
                f"{found.sizes.classes}: give the set that the run was trained on by --data"
            )
        return found

    @property
    def class_names(self) -> list[str]:
        """The names of the classes."""
        return list(self.dataset.class_names) if self.run is None else self.run.class_names()

    def examples(self, numbers: list[int], file: Path | None) -> list[Example]:
        """Return the test examples of these numbers, or those in a file.

        Raises:
            ValueError: for a number out of range, or a file that cannot be read.
        """
        if file is not None:
            length = self.dataset.sizes.input_shape[0] if self.run is None else self.run.sizes().input_shape[0]
            names, inputs = inputs_of(self.recipe, length, self.class_names, file)
            if numbers and max(numbers) > len(inputs) - 1:
                raise ValueError(f"--example {max(numbers)}: {file} holds {len(inputs)}, counted from 0")
            chosen = numbers or [0]
            return [Example(":".join(map(str, names[i].values())), inputs[i : i + 1], None) for i in chosen]
        test = self.dataset.test
        for number in numbers or [0]:
            if not 0 <= number < len(test):
                raise ValueError(
                    f"--example {number}: {self.dataset.source} has {len(test):,} test examples: give 0 .. "
                    f"{len(test) - 1}"
                )
        return [Example(f"test example {i}", test.inputs[i : i + 1], int(test.labels[i])) for i in numbers or [0]]

    def models(self, names: list[str]) -> Iterator[tuple[str, "Module"]]:
        """Yield (what weights, model) of each checkpoint, by default of the best one; of a recipe fresh weights.

        Raises:
            ValueError: for a recipe's checkpoint, or one that is missing or damaged.
        """
        if self.run is None:
            if names:
                raise ValueError(f"--checkpoint {names[0]}: {self.what} is a recipe and has none: name a run folder")
            model = fresh_model(self.recipe, self.dataset.sizes)
            self.recipe.fit_statistics(model, splits(self.recipe, self.dataset)[0].inputs)
            yield "fresh weights", model
            return
        for path in self._paths(names):
            yield path.stem, restored_model(self.run, path)

    def _paths(self, names: list[str]) -> list[Path]:
        assert self.run is not None
        self.run.class_names()  # refuses a run that never began, before its missing weights do
        folder, paths = self.run.checkpoints, []
        for name in names or ["best"]:
            number = name.removeprefix("step-")
            if name == "last":
                path, _, _, complaints = checkpoint.newest_intact(folder)
                for complaint in complaints:
                    print(f"passed over: {complaint}", file=sys.stderr)
                paths.append(path)
            elif name == "kept":
                paths += sorted(folder.glob("step-*.npz"))
                if not checkpoint.any_step(folder):
                    raise ValueError(f"{folder}: no checkpoint yet: go on with the training by train.py --resume")
            elif name == "best" or (name.startswith("step-") and number.isdigit()):
                paths.append(self.run.best if name == "best" else checkpoint.step_path(folder, int(number)))
                if not paths[-1].exists():
                    there = ", ".join(sorted(path.stem for path in folder.glob("*.npz"))) or "none"
                    raise ValueError(f"--checkpoint {name}: not in {folder}, which has: {there}")
            else:
                raise ValueError(f"--checkpoint {name}: give best, last, kept (all step-… in order) or step-NUMBER")
        return paths


def kernel_times(recipe: Recipe, stops: Sequence[Stop], *, steps: int = 20) -> dict[str, list[tuple[str, str, float]]]:
    """Return by stop the kernels (name, phase, µs) of the recipe's compiled train step on a batch of one.

    A kernel belongs to the stop of its layer: of what a layer does inside, to the layer.
    """
    alone = dataclasses.replace(recipe, batch_size=1, devices=1, workers=1)
    step, inputs, _ = made_up_step(alone, made_up_dataset(alone), xla=True)
    profile = profile_step(step, *inputs, steps=steps)
    modules = [stop.name for stop in stops if stop.kind == "module"]
    times: dict[str, list[tuple[str, str, float]]] = {}
    for kernel in profile.ranked():
        us = profile.us(kernel)
        # The innermost stop around the kernel's layer; a second call has the kernels of the first.
        around = [name for name in modules if kernel.layer == name or kernel.layer.startswith(f"{name}/")]
        if us is not None and around:
            times.setdefault(max(around, key=len), []).append((kernel.name, kernel.phase, us))
    return times
