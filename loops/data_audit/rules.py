"""The best rule of one feature, and how likely chance is to do as well.

A rule cuts the feature's range into at most `CELLS` cells, each of which names the class that it holds most of. Two
kinds are tried: the best single threshold (a stump), and cells of equal counts (a histogram). It is fitted on one half
of the train split, and scored on the other.
"""

import dataclasses

import numpy as np

CELLS = 8
PERMUTATIONS = 999


@dataclasses.dataclass(frozen=True)
class Rule:
    """Cells of a feature: `edges` (cells − 1,) ascending, `classes` (cells,) the class that each names."""

    edges: np.ndarray
    classes: np.ndarray

    def predict(self, feature: np.ndarray) -> np.ndarray:
        """Return the class (n,) of each value (n,)."""
        return self.classes[np.searchsorted(self.edges, feature, side="left")]

    def accuracy(self, feature: np.ndarray, labels: np.ndarray) -> float:
        """Return the share of examples that it is right about."""
        return float(np.mean(self.predict(feature) == labels))


def fit(feature: np.ndarray, labels: np.ndarray, classes: int) -> Rule:
    """Return the rule that is right most often on these examples; of equally good ones the one with fewer cells."""
    edges = np.unique(np.quantile(feature, np.arange(1, CELLS) / CELLS, method="lower"))
    candidates = [_of_edges(np.empty(0), feature, labels, classes), _stump(feature, labels, classes)]
    candidates.append(_of_edges(edges, feature, labels, classes))
    return max(candidates, key=lambda rule: rule.accuracy(feature, labels))


def _of_edges(edges: np.ndarray, feature: np.ndarray, labels: np.ndarray, classes: int) -> Rule:
    cells = np.searchsorted(edges, feature, side="left")
    counts = np.zeros([len(edges) + 1, classes])
    np.add.at(counts, (cells, labels), 1)
    majority = int(np.bincount(labels, minlength=classes).argmax())
    named = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), majority)
    differ = named[1:] != named[:-1]  # neighbours that name one class are one cell
    return Rule(edges[differ], named[np.append(True, differ)])


def _stump(feature: np.ndarray, labels: np.ndarray, classes: int) -> Rule:
    """The threshold whose two sides' largest classes add up to most."""
    order = np.argsort(feature, kind="stable")
    ordered, below = feature[order], np.zeros(classes)
    total = np.bincount(labels, minlength=classes).astype(np.float64)
    hits = np.cumsum(np.eye(classes)[labels[order]], axis=0)  # (n, classes): of the first i + 1
    right = hits.max(axis=1) + (total - hits).max(axis=1)
    ends = np.append(ordered[1:] > ordered[:-1], False)  # where two different values meet
    if not ends.any():
        return _of_edges(below[:0], feature, labels, classes)
    best = int(np.argmax(np.where(ends, right, -1)))
    edge = 0.5 * (ordered[best] + ordered[best + 1])
    return _of_edges(np.array([edge if edge < ordered[best + 1] else ordered[best]]), feature, labels, classes)


def p_values(predictions: np.ndarray, labels: np.ndarray, seed: int, permutations: int = PERMUTATIONS) -> np.ndarray:
    """Return, of each rule's predictions (rules, n), how often permuted labels (n,) are hit as often, (rules,).

    (1 + how many of the permutations do) / (1 + permutations), Phipson and Smyth 2010, equation 2.
    """
    rng = np.random.default_rng(seed)
    hits = np.sum(predictions == labels, axis=1)
    as_often = np.ones(len(predictions))
    for _ in range(permutations):
        as_often += np.sum(predictions == rng.permutation(labels), axis=1) >= hits
    return as_often / (permutations + 1)
