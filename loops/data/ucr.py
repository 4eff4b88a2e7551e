"""Reader of the UCR archive's text layout (2018): one series a line, tab-separated, the class label first.

`read` turns the two files of a set into a `Dataset`, `read_series` one file of series into inputs for a
prediction. Both take a file whole or not at all: every number must be finite and every line as long as it has
to be, and what is not is named by file and line.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loops.data.dataset import DataError, Dataset, Split

ARCHIVE = "https://www.cs.ucr.edu/~eamonn/time_series_data_2018/"
PARTS = ("TRAIN", "TEST")


def read(folder: Path, name: str) -> Dataset:
    """Return the set `name` from NAME_TRAIN.tsv and NAME_TEST.tsv in `folder`/`name`, or else in `folder`.

    Inputs are (n, length, 1) float32, labels (n,) int32. The classes are the train file's labels in ascending
    order, and their names are those labels as text ("-1", "1").

    Raises:
        DataError: for missing, damaged or unexpected files; the message names file, line, finding and remedy.
    """
    if not name or name in (".", "..") or any(character in name for character in "/\\\0"):
        raise DataError(
            f"series set {name!r}: this is no name of a set, expected one without a path, as FordA; give the folder "
            "with --data DIR"
        )
    try:
        home = _find(folder, name)
        paths = [home / f"{name}_{part}.tsv" for part in PARTS]
        train, train_labels = _read_labelled(paths[0])
        test, test_labels = _read_labelled(paths[1], train.shape[1], f"in {paths[0].name}")
    except OSError as error:  # no permission, a folder in a file's place, a failing disk
        raise _unreadable(error, folder) from error
    classes, train_classes = np.unique(train_labels, return_inverse=True)  # ascending
    class_names = tuple(_text(label) for label in classes)
    if len(classes) == 1:
        raise DataError(
            f"{paths[0]}: every line has the label {class_names[0]}, expected two classes or more; "
            "give a file with the series of all classes"
        )
    unknown = np.flatnonzero(~np.isin(test_labels, classes))
    if len(unknown):
        known = ", ".join(class_names[:10]) + (", ..." if len(classes) > 10 else "")
        raise DataError(
            f"{paths[1]}, line {unknown[0] + 1}: label {_text(test_labels[unknown[0]])}, expected one of the labels "
            f"in {paths[0].name} ({known}); correct it, or leave the line out"
        )
    return Dataset(
        name=name,
        train=Split(train, train_classes.astype(np.int32)),
        test=Split(test, np.searchsorted(classes, test_labels).astype(np.int32)),
        class_names=class_names,
        source=f"{name}, UCR files in {home}",
    )


def read_series(path: Path, *, length: int) -> np.ndarray:
    """Return the series in a file, (n, length, 1) float32, for a prediction.

    A line holds `length` values, or a label and then `length` values: the label must be a number and is ignored.

    Raises:
        DataError: for a file that is missing or damaged, or a line of another length.
    """
    series = []
    try:
        for number, row in _rows(path):
            if len(row) not in (length, length + 1):
                raise DataError(
                    f"{path}, line {number}: {_count(len(row), 'number')}, expected {length} (the values that the "
                    f"model takes) or {length + 1} (a label before them); give series of that length"
                )
            series.append(row[-length:].astype(np.float32))
    except OSError as error:
        raise _unreadable(error, path) from error
    return np.stack(series)[..., np.newaxis]  # (n, length, 1)


def _find(folder: Path, name: str) -> Path:
    """The first of the two folders that holds one of the set's files; what is missing then has a name."""
    homes = [folder / name, folder]
    files = [f"{name}_{part}.tsv" for part in PARTS]
    if folder.exists() and not folder.is_dir():
        raise DataError(
            f"{folder}: is a file, expected a folder with {files[0]} and {files[1]}; give the folder with "
            "--data DIR (the archive must be unpacked first)"
        )
    for home in homes:
        missing = [file for file in files if not (home / file).exists()]
        if len(missing) < len(files):
            break
    if not missing:
        return home
    others = [*folder.glob("*_TRAIN.tsv"), *folder.glob("*/*_TRAIN.tsv")]
    found = sorted({path.name.removesuffix("_TRAIN.tsv") for path in others})
    there = f" (the sets there: {', '.join(found[:10])}{', ...' if len(found) > 10 else ''})" if found else ""
    raise DataError(
        f"{' and '.join(missing)} missing, looked for in {homes[0]} and in {homes[1]}{there}; put the files of the "
        f"UCR archive ({ARCHIVE}) there, or name their folder with --data DIR"
    )


def _read_labelled(path: Path, length: int | None = None, where: str = "in line 1") -> tuple[np.ndarray, np.ndarray]:
    """Series (n, length, 1) float32 and labels (n,) float64; without `length`, line 1 decides it."""
    series, labels = [], []
    for number, row in _rows(path):
        if len(row) == 1:
            raise DataError(
                f"{path}, line {number}: one number and no tab, expected a label and the values of a series, "
                "separated by tabs; correct the line, or leave it out"
            )
        if length is None:
            length = len(row) - 1
        if len(row) - 1 != length:
            raise DataError(
                f"{path}, line {number}: {_count(len(row) - 1, 'value')} after the label, expected {length} as "
                f"{where}; correct the line, or leave it out"
            )
        labels.append(row[0])
        series.append(row[1:].astype(np.float32))
    return np.stack(series)[..., np.newaxis], np.array(labels) + 0.0  # -0 becomes 0


def _rows(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (line number, the numbers of the line (columns,) float64), all of them finite, at least once."""
    number = 0
    with path.open("rb") as file:  # a line at a time: of a large file that is something else, little is read
        for number, content in enumerate(file, 1):
            line = content.removeprefix(codecs.BOM_UTF8) if number == 1 else content
            line = line.rstrip(b"\r\n")
            try:
                row = np.array(list(map(float, line.split(b"\t"))))
            except ValueError:
                raise _explain(path, number, line) from None
            with np.errstate(over="ignore"):
                finite = np.isfinite(row.astype(np.float32)).all()
            if not finite or b"_" in line:  # Python's float reads 1_000
                raise _explain(path, number, line)
            yield number, row
    if not number:
        raise DataError(f"{path}: the file is empty, expected a series in each line; put an intact copy there")


def _explain(path: Path, number: int, line: bytes) -> DataError:
    """What is wrong with a line that could not be taken; only here is time spent on finding the column."""
    try:
        text = line.decode()
        binary = "\0" in text
    except UnicodeDecodeError:
        binary = True
    if binary:
        return DataError(
            f"{path}, line {number}: these bytes are no UTF-8 text, expected numbers separated by tabs; unpack the "
            "file if it is packed, or save it as plain text"
        )
    remedy = "correct the line, or leave it out"
    if not text.strip():
        return DataError(f"{path}, line {number}: the line is blank, expected a series in each line; {remedy}")
    fields = text.split("\t")
    column, finding = next((column, fault) for column, field in enumerate(fields, 1) if (fault := _fault(field)))
    if column == 1 and not fields[0].strip():
        finding = "is empty (the line starts with a tab: its label is missing)"
    expected = "expected a finite number" + (" and a tab after each" if len(fields) == 1 else "")
    return DataError(f"{path}, line {number}: column {column} {finding}, {expected}; {remedy}")


def _fault(field: str) -> str | None:
    """Why a field cannot be taken, or None."""
    if not field.strip():
        return "is empty"
    found = repr(field if len(field) <= 40 else f"{field[:40]}...")
    try:
        # Bytes as in `_rows`: of a str, float takes more kinds of blanks and digits.
        value = None if "_" in field else float(field.encode())
    except ValueError:
        value = None
    if value is None:
        return f"is {found}, no number"
    if np.isnan(value):
        return f"is {found}, a missing value"
    with np.errstate(over="ignore"):
        infinite = np.isinf(np.float32(value))
    return f"is {found}, infinite in single precision" if infinite else None


def _text(label: float) -> str:
    return repr(float(label)).removesuffix(".0")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _unreadable(error: OSError, place: Path) -> DataError:
    return DataError(
        f"{error.filename or place}: cannot be read ({error.strerror or error}), expected a .tsv file of the UCR "
        "layout; make it readable, or give another"
    )
