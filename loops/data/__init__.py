"""Where data comes from: `load` reads a recipe's data set from the cache, the network, a folder or the generator."""

from pathlib import Path

from loops.data import cifar, download, sample
from loops.data.dataset import Dataset

CLASSES = {"cifar10": 10, "cifar100": 100}


def load(dataset: str, data: str = "auto") -> Dataset:
    """Return the data set `dataset` ("cifar10", "cifar100").

    Args:
        dataset: the recipe's data set.
        data: "auto" (the cache, else a download), "sample" (made by the program), or a folder with the binary files.

    Raises:
        DataError: for missing, damaged or unexpected files; the message names file, finding and remedy.
    """
    if data == "sample":
        return sample.images(CLASSES[dataset])
    folder = download.fetch(dataset) if data == "auto" else Path(data)
    return cifar.read(folder, dataset)
