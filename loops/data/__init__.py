"""Where data comes from: `load` reads a recipe's data set from the cache, the network, a folder or the generator."""

import dataclasses
from pathlib import Path
from typing import Protocol

from loops.data import cifar, download, sample, series, ucr
from loops.data.dataset import IMAGE_SIZE, Dataset, Sizes
from loops.data.repair import STRICT, Repair


class Named(Protocol):
    """What a recipe says of its data."""

    @property
    def dataset(self) -> str:
        """The set's name."""

    @property
    def data(self) -> str:
        """auto, sample, or a folder."""

    @property
    def exchange_splits(self) -> bool:
        """Whether the test split is trained on."""

    @property
    def repair(self) -> Repair:
        """What is made of missing values and unequal lengths."""


# The published sizes: a recipe's model can be built without its data. Every other set is of series.
IMAGES = (IMAGE_SIZE, IMAGE_SIZE, 3)
SIZES = {"cifar10": Sizes(IMAGES, 10), "cifar100": Sizes(IMAGES, 100), "FordA": Sizes((500, 1), 2)}


def of_recipe(recipe: Named) -> Dataset:
    """Return the data that a recipe names, as `load` does."""
    return load(recipe.dataset, recipe.data, exchange=recipe.exchange_splits, repair=recipe.repair)


def load(dataset: str, data: str = "auto", *, exchange: bool = False, repair: Repair = STRICT) -> Dataset:
    """Return a data set: "cifar10", "cifar100", or a set of the UCR archive of time series by its name.

    Args:
        dataset: the recipe's data set.
        data: "auto" (the cache, else a download), "sample" (made by the program), or a folder with the files: CIFAR's
            binary ones, or NAME_TRAIN.tsv and NAME_TEST.tsv (see `ucr.read` for what else).
        exchange: let the two splits change places: train on the test split, test on the train split.
        repair: of sets of series, what is made of missing values and of unequal lengths.

    Raises:
        DataError: for missing, damaged or unexpected files; the message names file, finding and remedy.
    """
    images = dataset in cifar.LAYOUTS
    if data == "sample":
        found = sample.images(SIZES[dataset].classes) if images else series.series()
    else:
        folder = download.fetch(dataset) if data == "auto" else Path(data)
        found = cifar.read(folder, dataset) if images else ucr.read(folder, dataset, repair)
    if exchange:
        found = dataclasses.replace(
            found, train=found.test, test=found.train, source=f"{found.source}, splits exchanged"
        )
    return found
