"""Order and balance: where the classes stand in the files, how the splits differ, and channels that say nothing."""

import dataclasses

import numpy as np

from loops.data.dataset import Dataset, Split
from loops.data_audit import features, rules

SORTED = 0.5  # of the label changes of a shuffled file: below it a file counts as sorted
DRIFT = 0.6  # balanced accuracy of a rule that tells train from test, from which on the splits differ
SIGMAS = 4.0  # above chance, for the best of some twenty features is looked at


@dataclasses.dataclass(frozen=True)
class Balance:
    """What a set's order and shares are.

    Attributes:
        changes: of train and test, how often the label changes from one example to the next, over how often it would in
            a shuffled file: 1 for shuffled ones, near 0 for sorted ones.
        shares: of train and test, each class's share, (classes,).
        drift: feature and balanced accuracy of the rule that tells train from test best, on halves held out; and how
            many examples these are.
        constant: places in an input (flat) whose value is the same in every train example.
    """

    changes: tuple[float, float]
    shares: tuple[np.ndarray, np.ndarray]
    drift: tuple[str, float, int]
    constant: np.ndarray
    class_names: tuple[str, ...]

    def findings(self) -> list[str]:
        """Return what is worth a sentence."""
        found = [
            f"the {name} file is sorted by class, or nearly: the label changes {100 * share:.0f} % as often as in a "
            "shuffled one; a cut of it, or a training that does not shuffle, sees some classes alone"
            for name, share in zip(("train", "test"), self.changes, strict=True)
            if share < SORTED
        ]
        worst = int(np.abs(self.shares[0] - self.shares[1]).argmax())
        one, other = (float(shares[worst]) for shares in self.shares)
        if abs(one - other) > 0.05:
            found.append(
                f"class {self.class_names[worst]} has {100 * one:.1f} % of the train and {100 * other:.1f} % of the "
                "test examples"
            )
        if self.drift[1] >= max(DRIFT, 0.5 + SIGMAS * 0.5 / max(self.drift[2], 1) ** 0.5):
            found.append(
                f"train and test differ: by {self.drift[0]} alone a rule tells them apart, with balanced accuracy "
                f"{self.drift[1]:.2f} (chance 0.50)"
            )
        if len(self.constant):
            found.append(f"{len(self.constant)} of an input's values are the same in every train example")
        return found


def find(dataset: Dataset, *, seed: int = 0) -> Balance:
    """Return a set's order, shares and drift."""
    classes = len(dataset.class_names)
    flat = dataset.train.inputs.reshape(len(dataset.train), -1)
    return Balance(
        changes=(_changes(dataset.train), _changes(dataset.test)),
        shares=(_shares(dataset.train, classes), _shares(dataset.test, classes)),
        drift=_drift(dataset, seed),
        constant=np.flatnonzero(np.all(flat == flat[:1], axis=0)),
        class_names=dataset.class_names,
    )


def _shares(split: Split, classes: int) -> np.ndarray:
    return np.bincount(split.labels, minlength=classes) / len(split)


def _changes(split: Split) -> float:
    expected = (len(split) - 1) * (1 - np.sum(_shares(split, 1) ** 2))  # of a shuffled file
    return float(np.sum(split.labels[1:] != split.labels[:-1]) / expected) if expected > 0 else 1.0


def _drift(dataset: Dataset, seed: int) -> tuple[str, float, int]:
    """The feature by which train and test are told apart best, in equal numbers of both."""
    rng = np.random.default_rng(seed)
    count = min(len(dataset.train), len(dataset.test)) // 2 * 2
    halves = [rng.permutation(len(split))[:count] for split in (dataset.train, dataset.test)]
    inputs = [split.inputs[places] for split, places in zip((dataset.train, dataset.test), halves, strict=True)]
    known = [features.of(own) for own in inputs]
    labels = np.repeat([0, 1], count // 2)
    best = ("", 0.5, count)
    for name in known[0]:
        if name == features.PLACE:
            continue
        fitted, held = (
            np.concatenate([own[name][part] for own in known])
            for part in (slice(0, count // 2), slice(count // 2, count))
        )
        accuracy = rules.fit(fitted, labels, 2).accuracy(held, labels)
        if accuracy > best[1]:
            best = (name, accuracy, count)
    return best
