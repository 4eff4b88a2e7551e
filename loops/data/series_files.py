"""One file of series as people have it: the UCR archive's text of any year, `.ts` and `.arff`, packed by gzip or not.

What a file is, its content says: `@data` somewhere makes it `.ts` or `.arff`, else it is a table with a series a line,
separated by tabs, commas, semicolons or blanks, whichever line 1 has. `lines` yields one `Line` a series, whatever the
file is; what cannot be taken is named by file and line.
"""

import codecs
import dataclasses
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loops.data.dataset import DataError

SEPARATORS = {b"\t": "tabs", b",": "commas", b";": "semicolons", None: "blanks"}
PACKED = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"7z\xbc\xaf": "a 7z archive",
}
MISSING = (b"nan", b"?", b"")  # how a value that is not there is written, in lower case
REMEDY = "correct the line, or leave it out"


@dataclasses.dataclass(frozen=True)
class Line:
    """A series as it stands in a file: where, its numbers (NaN: missing), and its label as text.

    Of a table `label` is None, for nothing says whether its first column is one: `first` holds that as text, and is
    None of other files.
    """

    path: Path
    number: int  # from 1
    values: np.ndarray  # (columns,) float64; of a table the columns after the first
    label: str | None
    first: str | None

    @property
    def place(self) -> str:
        """File and line, for a message."""
        return f"{self.path}, line {self.number}"


def lines(path: Path) -> Iterator[Line]:
    """Yield the series of a file, at least one.

    Raises:
        DataError: for a file or a line that cannot be taken.
        OSError: for a file that cannot be read.
    """
    count = 0
    for line in _read(path):
        count += 1
        yield line
    if not count:
        raise DataError(f"{path}: the file is empty, expected a series in each line; put an intact copy there")


def _read(path: Path) -> Iterator[Line]:
    header: list[bytes] = []
    attributes: list[bytes] = []
    kind, blank = None, None  # blank: number of the first of the blank lines seen last
    columns = separator = trailing = None
    for number, content in enumerate(_raw_lines(path), 1):
        text = content.strip()
        if kind is None and columns is None and (text.startswith((b"@", b"%", b"#")) or (header and not text)):
            if text.startswith(b"@"):
                header.append(text.lower())
            if text.lower().startswith(b"@attribute"):
                attributes.append(text)
            if text.lower() == b"@data":
                kind = "arff" if attributes else "ts"
                _check_header(path, header)
            continue
        if header and kind is None:
            raise DataError(f"{path}, line {number}: a series before @data, expected it after that line; {REMEDY}")
        if not text or (kind and text.startswith((b"%", b"#"))):
            blank = blank or (number if not text else None)
            continue
        if blank is not None and kind is None:
            raise DataError(f"{path}, line {blank}: the line is blank, expected a series in each line; {REMEDY}")
        if kind == "ts":
            yield _ts_line(
                path, number, text, labelled=not any(one.split() == [b"@classlabel", b"false"] for one in header)
            )
            continue
        if kind == "arff":
            yield _arff_line(path, number, text, _label_column(attributes))
            continue
        if columns is None:
            separator = next((one for one in (b"\t", b",", b";") if one in content), None)
            trailing = separator is not None and content.endswith(separator)
        fields = content.split(separator)
        if len(fields) > 1 and not fields[-1].strip() and (trailing or len(fields) - 1 == columns):
            fields.pop()  # a separator at the line's end
        columns = columns or len(fields)
        yield Line(
            path,
            number,
            _numbers(path, number, fields[1:], separator, start=2),
            None,
            _decoded(path, number, fields[0]),
        )


def _raw_lines(path: Path) -> Iterator[bytes]:
    """The lines without their ends, unpacked; of a large file that is something else, little is read."""
    with path.open("rb") as file:
        start = file.peek(8)[:8]
        for magic, what in PACKED.items():
            if start.startswith(magic):
                raise DataError(f"{path}: this is {what}, expected text or .gz; unpack it and give the file inside")
        try:
            unpacked = gzip.GzipFile(fileobj=file) if start.startswith(b"\x1f\x8b") else file
            for number, content in enumerate(unpacked, 1):
                if b"\0" in content:
                    raise _no_text(path, number)
                content = content.removeprefix(codecs.BOM_UTF8) if number == 1 else content
                yield content.rstrip(b"\r\n")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: a damaged gzip file ({error}); put an intact copy there") from error


def _one_blank(line: bytes) -> bytes:
    return b" ".join(line.split())


def _no_text(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}, line {number}: these bytes are no UTF-8 text, expected numbers separated by tabs; unpack the "
        "file if it is packed, or save it as plain text"
    )


def _decoded(path: Path, number: int, field: bytes) -> str:
    try:
        return field.strip().decode()
    except UnicodeDecodeError:
        raise _no_text(path, number) from None


def _numbers(path: Path, number: int, fields: list[bytes], separator: bytes | None, start: int) -> np.ndarray:
    """The fields as numbers, NaN where one is missing; the first of them is column `start`."""
    try:
        values = np.array(list(map(float, fields)))
    except ValueError:
        if not all(_taken(field) for field in fields):
            raise _explain(path, number, fields, separator, start) from None
        values = np.array([np.nan if field.strip().lower() in MISSING else float(field) for field in fields])
    with np.errstate(over="ignore"):
        infinite = np.isinf(values.astype(np.float32)).any()
    if infinite or any(b"_" in field for field in fields):  # Python's float reads 1_000
        raise _explain(path, number, fields, separator, start)
    return values


def _taken(field: bytes) -> bool:
    return field.strip().lower() in MISSING or fault(field) is None


def _explain(path: Path, number: int, fields: list[bytes], separator: bytes | None, start: int) -> DataError:
    """What is wrong with a line; only here is time spent on finding the column."""
    texts = [_decoded(path, number, field) for field in fields]
    if number == 1 and len(texts) > 1 and all(fault(field) for field in fields):
        return DataError(
            f"{path}, line 1: no number stands there ({texts[0][:40]!r}, ...), expected a label and the values of a "
            "series; leave the line out if it names the columns"
        )
    column, found = next(
        (column, found) for column, field in enumerate(fields, start) if not _taken(field) and (found := fault(field))
    )
    hint = " (with a point, not a comma, before its decimals)" if b"," in fields[column - start] else ""
    return DataError(
        f"{path}, line {number}: column {column} {found}, expected a finite number{hint}, separated by "
        f"{SEPARATORS[separator]} as in line 1; {REMEDY}"
    )


def fault(field: bytes) -> str | None:
    """Return why a field is no finite number, or None."""
    text = field.strip().decode(errors="backslashreplace")
    if not text:
        return "is empty"
    found = repr(text if len(text) <= 40 else f"{text[:40]}...")
    try:
        # Of bytes: of a str, float takes more kinds of blanks and digits.
        value = None if b"_" in field else float(field)
    except ValueError:
        value = None
    if value is None:
        return f"is {found}, no number"
    if np.isnan(value):
        return f"is {found}, a missing value"
    with np.errstate(over="ignore"):
        infinite = np.isinf(np.float32(value))
    return f"is {found}, infinite in single precision" if infinite else None


# .ts of sktime and aeon, .arff of Weka: the label stands at the end.


def _check_header(path: Path, header: list[bytes]) -> None:
    for line in header:
        said = _one_blank(line)
        if said in (b"@univariate false", b"@timestamps true") or b" relational" in line:
            raise DataError(
                f"{path}: {line.decode(errors='replace')}, expected series of one channel without time stamps; give a "
                "set of that kind"
            )
        if said == b"@targetlabel true":
            raise DataError(f"{path}: {line.decode(errors='replace')}, expected classes, not a number to predict")


def _ts_line(path: Path, number: int, text: bytes, labelled: bool) -> Line:
    parts = text.split(b":")
    if len(parts) != 1 + labelled or b"(" in parts[0]:
        raise DataError(
            f"{path}, line {number}: {len(parts)} parts between colons, expected "
            f"{'the values of one channel and a label' if labelled else 'the values of one channel'}; {REMEDY}"
        )
    values = _numbers(path, number, parts[0].split(b","), b",", start=1)
    return Line(path, number, values, _decoded(path, number, parts[1]) if labelled else None, None)


def _label_column(attributes: list[bytes]) -> int | None:
    """The place of the attribute with named values, {1, 2}: the class."""
    return next((place for place, one in enumerate(attributes) if one.rstrip().endswith(b"}")), None)


def _arff_line(path: Path, number: int, text: bytes, label: int | None) -> Line:
    if text.startswith(b"{"):
        raise DataError(f"{path}, line {number}: a sparse line, expected all values of a series; {REMEDY}")
    fields = text.split(b",")
    name = None
    if label is not None and label < len(fields):
        name = _decoded(path, number, fields.pop(label)).strip("'\"")
    return Line(path, number, _numbers(path, number, fields, b",", start=1), name, None)
