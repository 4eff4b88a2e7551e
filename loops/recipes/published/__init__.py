"""What the five texts printed of their own runs, epoch by epoch: a CSV file a run, copied from the texts' output.

Columns: epoch, loss, accuracy (train, as the running means that Keras prints), val_loss, val_accuracy; of CIFAR-100
also top_5_accuracy and val_top_5_accuracy. Accuracies are fractions. A name that ends in _rerun is the author's second
run of the same text: how far it lies from the first says how far two honest runs may lie apart.
"""

import csv
import dataclasses
from pathlib import Path

from loops import recipes
from loops.recipes.recipe import Recipe

_INVOLUTION = '"Involutional neural networks", Keras examples'
_VIT = '"Image classification with Vision Transformer", Keras examples'
_PERCEIVER = '"Image classification with Perceiver", Keras examples'
_SERIES = '"Timeseries classification with a Transformer model", Keras examples'
_COURSE = "a Japanese deep-learning course's chapter on tuning convolution networks (TensorFlow 2.1)"
# Fields that say where and how a run is computed, and what is kept of it; the learning curve is not to depend on them.
# Nor does it on the number of epochs, as long as no schedule reads it: a shorter run is the beginning of a longer one.
_NOT_OF_THE_CURVE = {
    "data", "seed", "epochs", "precision", "xla", "devices", "workers", "steps_per_call", "keep_checkpoints",
    "checkpoint_steps", "diagnostics", "formulation", "augmentation", "constant_branches",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PublishedRun:
    """A run that a text printed: `file` without its ending, the recipe that it is of with its settings, the source."""

    file: str
    recipe: str
    source: str
    settings: tuple[tuple[str, str], ...] = ()

    def history(self) -> list[dict[str, float]]:
        """Return its rows, as `Run.read_history` returns those of a run of ours."""
        with open(Path(__file__).parent / f"{self.file}.csv", newline="") as file:
            return [
                {name: int(text) if name == "epoch" else float(text) for name, text in row.items()}
                for row in csv.DictReader(file)
            ]


RUNS = (
    PublishedRun("convnet_cifar10", "convnet_cifar10", _INVOLUTION),
    PublishedRun("convnet_cifar10_rerun", "convnet_cifar10", _INVOLUTION),
    PublishedRun("inn_cifar10", "inn_cifar10", _INVOLUTION),
    PublishedRun("inn_cifar10_rerun", "inn_cifar10", _INVOLUTION),
    PublishedRun("inn_cifar10_100_epochs", "inn_cifar10", _INVOLUTION),
    PublishedRun("vit_cifar100", "vit_cifar100", _VIT),
    PublishedRun("vit_cifar100_rerun", "vit_cifar100", _VIT),
    PublishedRun("perceiver_cifar100", "perceiver_cifar100", _PERCEIVER),
    PublishedRun("transformer_forda", "transformer_forda", _SERIES),
    PublishedRun("cnn_cifar10_base", "cnn_cifar10", _COURSE),
    PublishedRun("cnn_cifar10_dropout", "cnn_cifar10", _COURSE, (("dropout", "0.5"),)),
    PublishedRun("cnn_cifar10_l2", "cnn_cifar10", _COURSE, (("l2", "0.01"),)),
    PublishedRun(
        "cnn_cifar10_early_stopping", "cnn_cifar10", _COURSE, (("stop_patience", "3"), ("monitor", "val_loss"))
    ),
    PublishedRun("cnn_cifar10_batch_norm", "cnn_cifar10", _COURSE, (("batch_norm", "after"),)),
    # The chapter names batch norm alone for this curve. It is, to 0.002, that of batch norm with dropout beside it.
    PublishedRun("cnn_cifar10_batch_norm", "cnn_cifar10", _COURSE, (("batch_norm", "after"), ("dropout", "0.5"))),
)


def published_runs(recipe: Recipe) -> list[PublishedRun]:
    """Return what was published of a run's recipe, the nearest number of epochs first; [] for one of other settings."""
    base = recipes.get(recipe.name)
    matching = [
        published
        for published in RUNS
        if published.recipe == recipe.name and _alike(recipe, base.changed(published.settings))
    ]
    return sorted(matching, key=lambda published: abs(len(published.history()) - recipe.epochs))


def _alike(recipe: Recipe, other: Recipe) -> bool:
    own, others = recipe.to_json(), other.to_json()
    return all(own.get(name) == others.get(name) for name in own | others if name not in _NOT_OF_THE_CURVE)
