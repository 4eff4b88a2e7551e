"""A quantization leak taken out: the same series, as if all had been stored equally coarsely."""

import dataclasses

import numpy as np

from loops.data.dataset import Dataset, Split
from loops.data_audit import shortcuts

FINEST, COARSEST = 2.0**-14, 2.0**-3  # of the values' standard deviation: the grids that are tried


def removed(dataset: Dataset, *, seed: int = 0) -> tuple[Dataset, float]:
    """Return the set on the finest common grid on which storage tells no class, and the step of that grid.

    Each value is dithered by up to half a step and rounded to the grid. Dither, uniform in ± step / 2, makes what is
    rounded away independent of where the value stood on its old grid (Schuchman 1964). Steps of standard deviation ·
    2⁻¹⁴, 2⁻¹³ and so on are tried, each by the train split's rules and by the test split's.

    Raises:
        ValueError: for images, which are stored in 256 levels all of them; or if no grid is coarse enough.
    """
    if dataset.train.inputs.ndim != 3:
        raise ValueError(f"{dataset.source}: images have one common grid, their 256 levels: there is none to make")
    step = FINEST * float(dataset.train.inputs.std())
    while step <= COARSEST * float(dataset.train.inputs.std()):
        found = rounded(dataset, step, seed=seed)
        exchanged = dataclasses.replace(found, train=found.test, test=found.train)
        rules = [one for split in (found, exchanged) for one in shortcuts.find(split, seed=seed).found]
        if not any(one.p <= shortcuts.LEVEL and one.feature in shortcuts.SEEN for one in rules):
            return found, step
        step *= 2
    raise ValueError(f"{dataset.source}: its storage tells the classes on every grid that leaves a signal")


def rounded(dataset: Dataset, step: float, *, seed: int) -> Dataset:
    """Return the set with each value dithered and rounded to multiples of `step`."""
    rng = np.random.default_rng(seed)

    def split(own: Split) -> Split:
        values = own.inputs.astype(np.float64) + rng.uniform(-step / 2, step / 2, own.inputs.shape)
        return Split((np.round(values / step) * step).astype(own.inputs.dtype), own.labels)

    return dataclasses.replace(
        dataset,
        train=split(dataset.train),
        test=split(dataset.test),
        source=f"{dataset.source}, dithered and rounded to steps of {step:.2g} (seed {seed})",
    )
