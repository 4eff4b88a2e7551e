"""What comes out of the study: a line for each run (study.csv), a table of the rows (terminal and study.md)."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from loops import control, recipes
from loops.run import disk, resume
from loops.studies import study
from loops.studies.cnn_study.findings import findings
from loops.studies.cnn_study.rows import PROTOCOLS, RECIPE, ROWS, found
from loops.studies.study import Result, mean_and_spread
from tfcore.inspect.columns import aligned

FIGURES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
FAR = 0.015  # an accuracy that differs from the published one by more is marked
NONE = "–"
# Fields that change no result, but for rounding.
HARMLESS = ("xla", "steps_per_call", "keep_checkpoints", "diagnostics", "formulation")
EXPLAINED = {
    "published": "Protocol `published`: trained on the whole train split; the test split is evaluated after each epoch "
    "and the last epoch's figures count, as in the source.",
    "fair": "Protocol `fair`: the last tenth of the train split validates and chooses the epoch (by its accuracy; row "
    "early_stopping by its loss, which it watches); the test split is evaluated once, with that epoch's weights.",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """One run. None: not known (yet), or not published.

    Of an unfinished run the figures are those after its last epoch so far; with the protocol `fair` its test split has
    not been touched.
    """

    protocol: str
    row: str
    seed: int
    epochs_done: int
    epochs: int
    finished: bool
    train_accuracy: float
    test_accuracy: float | None
    train_loss: float
    test_loss: float | None
    gap: float | None
    best_epoch: int
    best_validation_accuracy: float
    seconds: float
    published_train_accuracy: float | None
    published_test_accuracy: float | None
    published_train_loss: float | None
    published_test_loss: float | None
    device: str


def line(result: Result) -> Line:
    """Return a run's line."""
    protocol, row = result.row.split("/")
    last, best = result.history[-1], result.history[_best(result)]
    if protocol == "published":
        shown, test_accuracy, test_loss = last, last["val_accuracy"], last["val_loss"]
    elif result.finished and result.summary is not None:
        shown, test_accuracy, test_loss = best, result.summary["test"]["accuracy"], result.summary["test"]["loss"]
    else:
        shown, test_accuracy, test_loss = last, None, None
    of_cifar = result.recipe.data != "sample"
    published = (ROWS[row].published if of_cifar else None) or (None,) * len(FIGURES)
    return Line(
        protocol=protocol,
        row=row,
        seed=result.recipe.seed,
        epochs_done=last["epoch"],
        epochs=result.recipe.epochs,
        finished=result.finished,
        train_accuracy=shown["accuracy"],
        test_accuracy=test_accuracy,
        train_loss=shown["loss"],
        test_loss=test_loss,
        gap=None if test_accuracy is None else shown["accuracy"] - test_accuracy,
        best_epoch=best["epoch"],
        best_validation_accuracy=best["val_accuracy"],
        seconds=round(sum(epoch["seconds"] for epoch in result.history), 1),
        device=", ".join(result.environment["gpus"]) or result.environment["cpu"],
        **{f"published_{name}": value for name, value in zip(FIGURES, published, strict=True)},
    )


def _best(result: Result) -> int:
    """The place in the history of the epoch that the run's checkpoint of the best weights is of, so far."""
    machine = control.BestCheckpoint(mode=control.mode_of(result.recipe.monitor))
    for place, epoch in enumerate(result.history):
        machine.update(epoch[result.recipe.monitor], place)
    return machine.best_epoch


def state(line: Line) -> str:
    """Return how far a run has come, in words."""
    if not line.finished:
        return f"{line.epochs_done} of {line.epochs} epochs, not finished"
    return f"{line.epochs_done}" + (", stopped early" if line.epochs_done < line.epochs else "")


# The table of the rows.


def table(lines: Iterable[Line], protocol: str) -> list[list[str]]:
    """Return the cells of a protocol's table, the heads first.

    A row's finished runs stand in one line, mean ± standard deviation over the seeds where there are several; each
    unfinished one has a line of its own below, marked.
    """
    published = protocol == "published"
    heads = ["row", "epochs", "train accuracy", "test accuracy"]
    heads += ["published", "difference"] if published else ["validation accuracy"]
    cells = [[*heads, "gap", "train loss", "test loss", "best epoch", "seconds"]]
    for row in ROWS:
        own = [line for line in lines if (line.protocol, line.row) == (protocol, row)]
        finished = [line for line in own if line.finished]
        if finished:
            cells.append(_cells(row, ", ".join(dict.fromkeys(map(state, finished))), finished, published))
        for line in own:
            if not line.finished:
                cells.append(_cells(f"{row}, seed {line.seed}", state(line), [line], published))
    return cells


def _cells(name: str, epochs: str, lines: Sequence[Line], published: bool) -> list[str]:
    middle = [mean(lines, "best_validation_accuracy")]
    if published:
        value = lines[0].published_test_accuracy
        known = value is not None
        middle = [f"{value:.3f}" if known else NONE, difference(lines, "test_accuracy") if known else NONE]
    if len(lines) > 1 and lines[0].finished:
        name += f" ({len(lines)} seeds)"
    return [
        name,
        epochs,
        mean(lines, "train_accuracy"),
        mean(lines, "test_accuracy"),
        *middle,
        mean(lines, "gap"),
        mean(lines, "train_loss"),
        mean(lines, "test_loss"),
        ", ".join(dict.fromkeys(str(line.best_epoch) for line in lines)),
        mean(lines, "seconds", digits=0),
    ]


def mean(lines: Sequence[Line], figure: str, digits: int = 4) -> str:
    """Return the mean of a figure over runs, with ± its standard deviation where there are several."""
    values = [getattr(line, figure) for line in lines]
    if None in values:
        return NONE
    middle, spread = mean_and_spread(values)
    return f"{middle:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


def difference(lines: Sequence[Line], figure: str) -> str:
    """Return ours − published; none for an unfinished run, and accuracies that are far apart are marked."""
    if not all(line.finished for line in lines):
        return NONE
    ours, _ = mean_and_spread([getattr(line, figure) for line in lines])
    value = ours - getattr(lines[0], f"published_{figure}")
    return f"{value:+.3f}" + (" *" if "accuracy" in figure and abs(value) > FAR else "")


def beside_published(lines: Iterable[Line]) -> list[list[str]]:
    """Return the cells of the finished rows that have published figures: ours, published, difference of each."""
    cells = [["row", *(name.replace("_", " ") for name in FIGURES)]]
    for row in ROWS:
        own = [line for line in lines if (line.protocol, line.row, line.finished) == ("published", row, True)]
        if own and own[0].published_test_accuracy is not None:
            theirs = [getattr(own[0], f"published_{name}") for name in FIGURES]
            together = zip(FIGURES, theirs, strict=True)
            cells.append(
                [row, *(f"{mean(own, name)} / {value:.3f} / {difference(own, name)}" for name, value in together)]
            )
    return cells


def as_text(cells: list[list[str]]) -> str:
    """Return a table for the terminal: the first two columns to the left, numbers to the right."""
    return "\n".join(aligned(cells, lambda column, cell: column >= 2))


def as_markdown(cells: list[list[str]]) -> str:
    """Return a table in Markdown."""
    marks = ["---", "---", *["---:"] * (len(cells[0]) - 2)]
    escaped = [[cell.replace("*", "\\*") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in (escaped[0], marks, *escaped[1:]))


# The files.


def write(folder: Path) -> list[Result]:
    """Write study.csv and study.md of all runs in the study's folder that have ended an epoch; return them."""
    results = study.results(found(folder))
    if results:
        _write_csv(folder / "study.csv", [line(result) for result in results])
        text = markdown(results, command=f"python scripts/study_cnn.py --out {folder} --report")
        disk.write_text(folder / "study.md", text)
    return results


def _write_csv(path: Path, lines: Sequence[Line]) -> None:
    """A line for each run; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Line)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(line) for line in lines)
    disk.write_text(path, text.getvalue())


def markdown(results: Sequence[Result], *, command: str) -> str:
    """Return study.md: tables of both protocols, what the rows change, what the histories show."""
    lines = [line(result) for result in results]
    parts = ["# The CNN accuracy study", f"Written by `{command}`; the runs are one line each in `study.csv`."]
    parts += ["\n".join(_origin(results))]
    for protocol in PROTOCOLS:
        own = [line for line in lines if line.protocol == protocol]
        if not own:
            continue
        parts += [f"## {protocol.capitalize()} protocol", EXPLAINED[protocol], as_markdown(table(lines, protocol))]
        parts += _notes(own)
        beside = beside_published(lines)
        if protocol == "published" and len(beside) > 1:
            parts += ["Ours / published / difference:", as_markdown(beside)]
    parts += ["## Rows", as_markdown([["row", "change"], *([row, ROWS[row].change] for row in ROWS)])]
    shown = findings(results)
    if shown:
        parts += ["## What the histories show", "\n".join(f"- {text}" for text in shown)]
    return "\n\n".join(parts) + "\n"


def _origin(results: Iterable[Result]) -> list[str]:
    """Data and devices of the runs."""
    data, devices = {}, {}
    for result in results:
        data.setdefault(result.environment["data"], []).append(result)
        devices.setdefault(line(result).device, []).append(result)
    origin = [f"- Data: {', '.join(data)}."]
    origin += [f"- Trained on: {', '.join(f'{device} ({len(runs)} runs)' for device, runs in devices.items())}."]
    changed = {field: pair for result in results for field, pair in common_changes(result).items()}
    if changed:
        listed = ", ".join(f"{field} {ours} (published: {theirs})" for field, (ours, theirs) in changed.items())
        origin += [f"- **Not the published settings**, in all rows: {listed}."]
    return origin


def common_changes(result: Result) -> dict[str, tuple[object, object]]:
    """Return field -> (here, published) of what a run changes beyond its row and protocol."""
    protocol, row = result.row.split("/")
    own = {"seed", "data", *HARMLESS, *PROTOCOLS[protocol], *ROWS[row].settings}
    published = recipes.get(RECIPE).changed(ROWS[row].settings.items())
    pairs = resume.changes(published, result.recipe)
    return {field: (ours, theirs) for field, (theirs, ours) in pairs.items() if field not in own}


def _notes(lines: Sequence[Line]) -> list[str]:
    """What a reader of a protocol's table must know."""
    notes = ["gap: train − test accuracy. Train figures are means over an epoch's steps, dropout on; losses hold their "
             "penalty, as Keras reports them."]  # fmt: skip
    if lines[0].protocol == "published":
        notes.append(
            "best epoch: the one with the highest test accuracy (early_stopping: the lowest test loss). It is shown, "
            f"never used. \\*: an accuracy more than {FAR} from the published one."
        )
    if not all(line.finished for line in lines):
        notes.append(
            "**Not finished**: figures of such a line are those after its last epoch so far, and are in no mean."
        )
    missing = [row for row in ROWS if row not in {line.row for line in lines}]
    if missing:
        notes.append(f"No epoch yet: {', '.join(missing)}.")
    return notes
