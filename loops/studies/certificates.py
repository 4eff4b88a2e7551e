"""Curve certificates: how far a run's learning curve lies from the published one, over all epochs that both have."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from loops.recipes.published import PublishedRun, published_runs
from loops.run.runs import Run

# Root mean square of the difference of validation accuracy. Two honest runs of one text differ by random weights and
# order: the first author's two ConvNets by 0.012, the second's two vision transformers by 0.012.
LIMIT = 0.015
NOTE = "note.txt"  # in a run's folder: why its curve is not the published one
History = Sequence[dict]


@dataclasses.dataclass(frozen=True)
class Distance:
    """Of one metric over the common epochs: root mean square and largest size of ours - published."""

    rms: float
    largest: float


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A run beside the published one.

    Attributes:
        run: name of the run's folder.
        published: name of the published run.
        source: the text that printed it.
        epochs: how many both have.
        train, validation: distances of the accuracies.
        last: our last epoch and its validation accuracy, then the published run's.
        best: our best epoch and its validation accuracy, then the published run's.
        finished: whether our run came to its end.
        between_authors: root mean square of the validation accuracies of the author's own two runs; None with one.
        note: why the curve is another; "" where nobody has said.
    """

    run: str
    published: str
    source: str
    epochs: int
    train: Distance
    validation: Distance
    last: tuple[int, float, int, float]
    best: tuple[int, float, int, float]
    finished: bool
    between_authors: float | None
    note: str

    @property
    def ok(self) -> bool:
        """Whether the curve is the published one, within `LIMIT`, or the note says why it is not."""
        return self.validation.rms <= LIMIT or bool(self.note)


def distance(ours: History, published: History, metric: str) -> Distance:
    """Compare a column of two histories over the epochs that both have."""
    differences = [own[metric] - other[metric] for own, other in zip(ours, published, strict=False)]
    return Distance(
        rms=math.sqrt(sum(difference**2 for difference in differences) / len(differences)),
        largest=max(abs(difference) for difference in differences),
    )


def certify(folder: Path) -> Certificate | None:
    """Set a run beside the published run of the same recipe; None where nothing was published of its settings.

    Raises:
        ValueError: if the folder holds no run, or one in which no epoch has ended.
    """
    run = Run.open(folder)
    candidates = published_runs(run.recipe)
    if not candidates:
        return None
    ours = run.read_history()
    if not ours:
        raise ValueError(f"{folder}: no epoch has ended, so there is no curve yet: go on by --resume")
    published = candidates[0].history()
    note = folder / NOTE
    return Certificate(
        run=folder.resolve().name,
        published=candidates[0].file,
        source=candidates[0].source,
        epochs=min(len(ours), len(published)),
        train=distance(ours, published, "accuracy"),
        validation=distance(ours, published, "val_accuracy"),
        last=(*_last(ours), *_last(published)),
        best=(*_best(ours), *_best(published)),
        finished=(folder / "summary.json").exists(),
        between_authors=_between_authors(candidates),
        note=" ".join(note.read_text(encoding="utf-8").split()) if note.exists() else "",
    )


def _last(history: History) -> tuple[int, float]:
    return history[-1]["epoch"], history[-1]["val_accuracy"]


def _best(history: History) -> tuple[int, float]:
    best = max(history, key=lambda row: row["val_accuracy"])
    return best["epoch"], best["val_accuracy"]


def _between_authors(candidates: Sequence[PublishedRun]) -> float | None:
    """The distance of the first published run from its author's second one of as many epochs."""
    first = candidates[0]
    second = [other for other in candidates if {first.file, other.file} == {_stem(first), f"{_stem(first)}_rerun"}]
    return distance(second[0].history(), first.history(), "val_accuracy").rms if second else None


def _stem(published: PublishedRun) -> str:
    return published.file.removesuffix("_rerun")


def table(certificates: Sequence[Certificate]) -> str:
    """Return the certificates as a Markdown table, their notes below it."""
    lines = [
        "| run | epochs | validation accuracy, rms (largest) | train accuracy, rms | author's two runs, rms "
        "| last epoch: measured / published | best epoch: measured / published |",
        "| --- | ---: | --- | --- | --- | --- | --- |",
    ]
    for own in certificates:
        mark = "" if own.validation.rms <= LIMIT else " *" if own.note else " **no**"
        authors = "" if own.between_authors is None else f"{own.between_authors:.3f}"
        lines.append(
            f"| `{own.run}` | {own.epochs}{'' if own.finished else ', not finished'} "
            f"| {own.validation.rms:.3f} ({own.validation.largest:.3f}){mark} | {own.train.rms:.3f} | {authors} "
            f"| {_pair(own.last)} | {_pair(own.best)} |"
        )
    notes = [f"\\* `{own.run}`: {own.note}" for own in certificates if own.note and own.validation.rms > LIMIT]
    return "\n".join([*lines, *(line for note in notes for line in ("", note))]) + "\n"


def _pair(values: tuple[int, float, int, float]) -> str:
    epoch, ours, published_epoch, published = values
    return f"{ours:.4f} (epoch {epoch}) / {published:.4f} ({published_epoch})"
