"""Shortcuts: which trivial feature alone tells the classes apart, and whether it should."""

import dataclasses

import numpy as np

from loops.data.dataset import Dataset, Split
from loops.data_audit import features, rules

SEEN = features.STORAGE - {features.PLACE}  # what of an example's storage a model sees
LEAST = 10  # examples of a class, below which nothing can be judged
LEVEL = 0.05  # of the p-value, corrected for the number of features (Bonferroni): at most 5 % of clean sets pass it
SHARE = 0.5  # of the majority's errors that a rule must take away, on the held-out half and on the test split


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """What one feature's best rule does.

    Attributes:
        feature: its name, of `features`.
        storage: whether it is of how examples are stored, and should say nothing.
        rule: fitted on the first half.
        held_out, test: accuracies on the other half of train, and on the test split.
        p: chance's, on the held-out half, corrected for the number of features.
    """

    feature: str
    storage: bool
    rule: rules.Rule
    held_out: float
    test: float
    p: float


@dataclasses.dataclass(frozen=True)
class Shortcuts:
    """All features' rules, the best first, beside what the commonest class gives: `majority`, on held-out and test."""

    found: list[Shortcut]
    majority: tuple[float, float]
    class_names: tuple[str, ...]

    @property
    def strong(self) -> list[Shortcut]:
        """Those that chance does not explain, and that take away half of the majority's errors or more."""
        return [one for one in self.found if one.p <= LEVEL and self._is_wide(one)]

    @property
    def leaks(self) -> list[Shortcut]:
        """The strong ones of storage, as a model sees it: nothing of what was measured can be in them.

        An example's place in the file, which no model sees, is not among them.
        """
        return [one for one in self.strong if one.feature.split(",")[0] in SEEN]

    def _is_wide(self, one: Shortcut) -> bool:
        pairs = zip((one.held_out, one.test), self.majority, strict=True)
        return all(1 - accuracy <= (1 - SHARE) * (1 - chance) for accuracy, chance in pairs)

    def in_words(self, one: Shortcut) -> str:
        """Return a sentence about a rule: where which class lies."""
        if not len(one.rule.edges):
            return f"{one.feature}: no rule is better than naming the commonest class"
        cells = [f"up to {one.rule.edges[0]:.6g}: {self.class_names[one.rule.classes[0]]}"]
        for edge, label in zip(one.rule.edges, one.rule.classes[1:], strict=True):
            cells.append(f"above {edge:.6g}: {self.class_names[label]}")
        why = "storage, which should say nothing of a class" if one.storage else "crude, but it may be physics"
        return f"{one.feature}: {', '.join(cells)}; right on {100 * one.test:.1f} % of the test split ({why})"


def check(dataset: Dataset) -> None:
    """Refuse a set of which nothing can be said.

    Raises:
        ValueError: for one class, or too few examples of one.
    """
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.class_names))
    if len(dataset.class_names) < 2:
        raise ValueError(f"{dataset.source}: one class alone, {dataset.class_names[0]}: there is nothing to tell apart")
    least = int(counts.argmin())
    if counts[least] < LEAST:
        raise ValueError(
            f"{dataset.source}: {counts[least]} train examples of class {dataset.class_names[least]}, fewer than "
            f"{LEAST}: nothing can be judged; take a larger set"
        )


def find(dataset: Dataset, *, seed: int = 0, permutations: int = rules.PERMUTATIONS) -> Shortcuts:
    """Return the best rule of each trivial feature, fitted on one half of train, scored on the other and on test.

    Raises:
        ValueError: for a set of which nothing can be said, see `check`.
    """
    check(dataset)
    classes = len(dataset.class_names)
    fitted, held = _halves(dataset.train, seed)
    train, test = features.of(dataset.train.inputs), features.of(dataset.test.inputs)
    labels = dataset.train.labels
    own = {name: rules.fit(values[fitted], labels[fitted], classes) for name, values in train.items()}
    predictions = np.stack([rule.predict(train[name][held]) for name, rule in own.items()])
    chance = rules.p_values(predictions, labels[held], seed, permutations)
    found = [
        Shortcut(
            feature=name,
            storage=name.split(",")[0] in features.STORAGE,
            rule=rule,
            held_out=rule.accuracy(train[name][held], labels[held]),
            test=rule.accuracy(test[name], dataset.test.labels),
            p=min(1.0, float(p) * len(own)),
        )
        for (name, rule), p in zip(own.items(), chance, strict=True)
    ]
    commonest = int(np.bincount(labels[fitted], minlength=classes).argmax())
    majority = (float(np.mean(labels[held] == commonest)), float(np.mean(dataset.test.labels == commonest)))
    return Shortcuts(sorted(found, key=lambda one: (-one.held_out, one.p)), majority, dataset.class_names)


def _halves(split: Split, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of two halves of a split, each class divided evenly."""
    order = np.random.default_rng(seed).permutation(len(split))
    order = order[np.argsort(split.labels[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])
