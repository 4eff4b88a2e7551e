"""Reader of sets of series as the UCR archive has them: two files, a series a line, each with its class label.

`read` turns the two files of a set into a `Dataset`, `read_series` one file of series into inputs for a prediction;
which texts they may be written in, `series_files` knows. Both take a file whole or not at all: what is not a series of
finite numbers, as long as the others, is named by file and line, unless a `Repair` says what is made of it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from loops.data.dataset import DataError, Dataset, Split
from loops.data.repair import STRICT, Repair
from loops.data.series_files import REMEDY, Line, fault, lines
from loops.run import disk

ARCHIVE = "https://www.cs.ucr.edu/~eamonn/time_series_data_2018/"
PARTS = ("TRAIN", "TEST")
ENDINGS = (".tsv", ".ts", ".arff", ".txt", ".csv", "")  # of several files that hold a part, the first; each also .gz
DEPTH = 3  # folders below the named one that are looked into


def read(folder: Path, name: str, repair: Repair = STRICT) -> Dataset:
    """Return the set `name` from NAME_TRAIN and NAME_TEST, of any of `ENDINGS`, in `folder` or a folder below it.

    Inputs are (n, length, 1) float32, labels (n,) int32. The classes are the train file's labels in ascending order,
    and their names are those labels as text ("-1", "1"); words are sorted as text.

    Raises:
        DataError: for missing, damaged or unexpected files; the message names file, line, finding and remedy.
    """
    if not name or name in (".", "..") or any(character in name for character in "/\\\0"):
        raise DataError(
            f"series set {name!r}: this is no name of a set, expected one without a path, as FordA; give the folder "
            "with --data DIR"
        )
    try:
        paths = _find(folder, name)
        parts = [[_labelled(line) for line in lines(path)] for path in paths]
    except OSError as error:  # no permission, a folder in a file's place, a failing disk
        raise _unreadable(error, folder) from error
    classes = _classes(parts[0])
    repaired = [repair.begin() for _ in parts]
    cleaned = [[count.clean(line) for line in part] for part, count in zip(parts, repaired, strict=True)]
    length = max(map(len, (*cleaned[0], *cleaned[1]))) if repair.pads else len(cleaned[0][0])
    wheres = ("in line 1", f"in {paths[0].name}")
    inputs = [
        np.stack([count.fit(line, values, length, where) for line, values in zip(part, found, strict=True)])
        for part, found, count, where in zip(parts, cleaned, repaired, wheres, strict=True)
    ]
    labels = [_places(part, classes, paths[0]) for part in parts]
    counts = {key: sum(count.counts[key] for count in repaired) for key in repaired[0].counts}
    return Dataset(
        name=name,
        train=Split(inputs[0][..., np.newaxis], labels[0]),
        test=Split(inputs[1][..., np.newaxis], labels[1]),
        class_names=tuple(classes),
        source=f"{name}, UCR files in {paths[0].parent}{repair.in_words(counts, length)}",
        repairs=counts,
    )


def write(dataset: Dataset, folder: Path, name: str) -> None:
    """Write a set of series as `read` takes them: NAME_TRAIN.tsv and NAME_TEST.tsv, a label first in each line."""
    folder.mkdir(parents=True)
    for part, split in (("TRAIN", dataset.train), ("TEST", dataset.test)):
        rows = zip(split.labels, split.inputs[..., 0], strict=True)
        lines = ["\t".join([dataset.class_names[label], *(f"{value:.9g}" for value in row)]) for label, row in rows]
        disk.write_text(folder / f"{name}_{part}.tsv", "\n".join(lines) + "\n")


def read_series(path: Path, *, length: int, class_names: Sequence[str], repair: Repair = STRICT) -> np.ndarray:
    """Return the series in a file, (n, length, 1) float32, for a prediction.

    All lines of a table hold `length` values, or all a label, which must be one of `class_names`, and then `length`
    values. In `.ts` and `.arff` a label has its own place. Labels are not used.

    Raises:
        DataError: for a file that is missing or damaged, or a line that does not fit.
    """
    try:
        found = list(lines(path))
    except OSError as error:
        raise _unreadable(error, path) from error
    if found[0].first is not None:
        found = _of_table(found, length, class_names, repair)
    count = repair.begin()
    return np.stack([count.fit(line, count.clean(line), length, "the model takes") for line in found])[..., np.newaxis]


def _of_table(found: list[Line], length: int, class_names: Sequence[str], repair: Repair) -> list[Line]:
    """The lines of a table with their values alone: without the labels, or with the first column as a value."""
    widths = [1 + len(line.values) for line in found]
    widest = max(widths)
    for line, width in zip(found, widths, strict=True):
        if width != widths[0] and not repair.pads:
            raise DataError(
                f"{line.place}: {_count(width, 'number')}, expected {widths[0]} as in line {found[0].number}; {REMEDY}"
            )
        if widest not in (length, length + 1) and not (repair.pads and widest < length):
            raise DataError(
                f"{line.place}: {_count(width, 'number')}, expected {length} (the values that the model takes) or "
                f"{length + 1} (a label before them); give series of that length"
            )
    named = [_class_text(line.first or "") in class_names for line in found]
    if widest == length + 1 or (widest < length and all(named)):
        _check_first(found, named, class_names, length)
        return found
    if len(found) > 1 and all(named):
        raise DataError(
            f"{found[0].path}: each line begins with a class of the run ({_some(class_names)}) and holds {length} "
            f"numbers, as if {length - 1} values stood behind a label, expected {length} values; give whole series, "
            "and if these are values, put labels before them"
        )
    return [_unlabelled(line) for line in found]


def _check_first(found: list[Line], named: list[bool], class_names: Sequence[str], length: int) -> None:
    """Refuse a first column that is not of the run's classes."""
    if all(named):
        return
    line = found[named.index(False)]
    last = all(_class_text(repr(float(line.values[-1]))) in class_names for line in found)
    first = (line.first or "")[:40]
    raise DataError(
        f"{line.place}: column 1 is {first!r}, which is none of the run's classes ({_some(class_names)}), "
        f"expected {length} values, or a label before them; "
        + ("the labels stand at the end of the lines: put them first, or leave them out" if last else REMEDY)
    )


def _unlabelled(line: Line) -> Line:
    """A line of a table whose first column is a value, too."""
    text = (line.first or "").encode()
    finding = fault(text)
    missing = finding is not None and (not text or text.lower() in (b"nan", b"?"))
    if finding is not None and not missing:
        raise DataError(f"{line.place}: column 1 {finding}, expected a finite number; {REMEDY}")
    first = np.nan if missing else float(text)
    return Line(line.path, line.number, np.concatenate([[first], line.values]), None, None)


def _labelled(line: Line) -> Line:
    """A line of a set, its label in its place."""
    label = line.first if line.label is None else line.label
    if label is None:
        raise DataError(f"{line.place}: no label, expected each series with its class; give a file with labels")
    if not label:
        raise DataError(
            f"{line.place}: column 1 is empty (the line starts with a tab: its label is missing), expected a label "
            f"before the values; {REMEDY}"
        )
    if (finding := fault(label.encode())) and not finding.endswith("no number"):
        raise DataError(f"{line.place}: the label {finding}, expected the name or number of a class; {REMEDY}")
    if not len(line.values):
        raise DataError(
            f"{line.place}: one column ({label[:40]!r}), expected a label and the values of a series, separated by "
            f"tabs, commas or blanks as in line 1; {REMEDY}"
        )
    return Line(line.path, line.number, line.values, label, line.first)


def _classes(train: list[Line]) -> list[str]:
    """The names of the classes in order; numbers by their value, words as text."""
    numbers = fault(_label(train[0]).encode()) is None
    for line in train:
        _check_label(line, numbers, train[0])
    names = {_class_text(_label(line)) for line in train}
    if len(names) == 1:
        raise DataError(
            f"{train[0].path}: every line has the label {next(iter(names))}, expected two classes or more; "
            "give a file with the series of all classes"
        )
    return sorted(names, key=float) if numbers else sorted(names)


def _label(line: Line) -> str:
    """The label of a line of a set: `_labelled` has seen that there is one."""
    return line.label or ""


def _check_label(line: Line, numbers: bool, first: Line) -> None:
    """Refuse a word among numbers, a number among words."""
    finding = fault(_label(line).encode())
    if (finding is None) != numbers:
        finding, expected = finding or f"is {line.label}, a number", "a number" if numbers else "a word"
        raise DataError(
            f"{line.place}: the label {finding}, expected {expected} as in line {first.number} ({_label(first)[:40]}); "
            f"{REMEDY}"
        )


def _places(part: list[Line], classes: list[str], train: Path) -> np.ndarray:
    """The labels of a part (n,) int32, as places among the classes."""
    place = {name: number for number, name in enumerate(classes)}
    for line in part:
        if _class_text(_label(line)) not in place:
            raise DataError(
                f"{line.place}: label {_class_text(_label(line))}, expected one of the labels in {train.name} "
                f"({_some(classes)}); correct it, or leave the line out"
            )
    return np.array([place[_class_text(_label(line))] for line in part], np.int32)


def _class_text(label: str) -> str:
    """A label as the name of a class: of a number one spelling, whichever the file has."""
    return label if fault(label.encode()) else repr(float(label) + 0.0).removesuffix(".0")  # -0 becomes 0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


# Where the two files lie.


def _find(folder: Path, name: str) -> list[Path]:
    """The files of the parts, in the first of the folders that holds one; what is missing then has a name."""
    homes = [folder / name, folder]
    files = [f"{name}_{part}.tsv" for part in PARTS]
    if folder.exists() and not folder.is_dir():
        raise DataError(
            f"{folder}: is a file, expected a folder with {files[0]} and {files[1]}; give the folder with "
            "--data DIR (the archive must be unpacked first)"
        )
    for home in homes:
        if parts := _files_in(home, name):
            return _both(parts, name, homes)
    deeper = {home: parts for home in _folders_below(folder) if (parts := _files_in(home, name))}
    whole = [home for home, parts in deeper.items() if len(parts) == len(PARTS)] or list(deeper)
    if len(whole) > 1:
        raise DataError(
            f"{folder}: the set {name} lies in {len(whole)} folders below it ({_some([str(home) for home in whole])}), "
            "expected one; name one of them with --data DIR"
        )
    if whole:
        return _both(deeper[whole[0]], name, homes)
    others = (re.fullmatch(r"(.+)_TRAIN(\.\w+)*", path.name, re.IGNORECASE) for path in _entries(folder))
    found = sorted({match[1] for match in others if match})
    there = f" (the sets there: {_some(found)})" if found else ""
    endings = (".zip", ".tar", ".tgz", ".7z", ".rar", ".tar.gz")
    packed = sorted(path.name for path in _entries(folder) if path.name.lower().endswith(endings))
    there += f" ({_some(packed)} must be unpacked first)" if packed else ""
    raise DataError(
        f"{' and '.join(files)} missing, looked for in {homes[0]} and in {homes[1]}{there}; put the files of the "
        f"UCR archive ({ARCHIVE}) there (.tsv, .txt, .ts, .arff, .csv or no ending, .gz too), or name their folder "
        "with --data DIR"
    )


def _both(parts: dict[str, Path], name: str, homes: list[Path]) -> list[Path]:
    there = next(iter(parts.values()))
    missing = [f"{name}_{part}{''.join(there.suffixes)}" for part in PARTS if part not in parts]
    if missing:
        raise DataError(
            f"{' and '.join(missing)} missing, looked for in {homes[0]} and in {homes[1]} (there is {there}); put the "
            f"file of the UCR archive ({ARCHIVE}) beside it, or name another folder with --data DIR"
        )
    return [parts[part] for part in PARTS]


def _files_in(home: Path, name: str) -> dict[str, Path]:
    """Part -> its file in a folder: of one ending, if one holds both."""
    pattern = re.compile(rf"{re.escape(name)}_(TRAIN|TEST)({'|'.join(map(re.escape, ENDINGS))})(\.gz)?", re.IGNORECASE)
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(home.iterdir()) if home.is_dir() else ():
        if match := pattern.fullmatch(path.name):
            found.setdefault(match[2].lower(), {}).setdefault(match[1].upper(), path)
    ordered = sorted(found, key=lambda ending: (-len(found[ending]), ENDINGS.index(ending)))
    return {part: path for ending in reversed(ordered) for part, path in found[ending].items()}


def _folders_below(folder: Path) -> Iterator[Path]:
    for place, folders, _ in os.walk(folder):
        if len(Path(place).relative_to(folder).parts) >= DEPTH:
            folders.clear()
        folders.sort()
        yield Path(place)


def _entries(folder: Path) -> list[Path]:
    return [*folder.glob("*"), *folder.glob("*/*")] if folder.is_dir() else []


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _unreadable(error: OSError, place: Path) -> DataError:
    return DataError(
        f"{error.filename or place}: cannot be read ({error.strerror or error}), expected a .tsv file of the UCR "
        "layout; make it readable, or give another"
    )
