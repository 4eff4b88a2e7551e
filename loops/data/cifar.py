"""Reader of the official *binary* layout of CIFAR-10 and CIFAR-100.

`Layout` and `LAYOUTS` say what the files are (the download checks its archive against the same table), `read`
turns a folder into a `Dataset`, the functions below it check one thing each. A file is taken only if its size
is right to the byte and every label is in range; where a download left `checksums.json`, its content must
match too.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loops.data.dataset import DataError, Dataset, Split

CHECKSUMS = "checksums.json"  # file name -> sha256 in hex, written by the download beside the files
IMAGE_BYTES = 3 * 32 * 32  # planes R, G, B, each row by row
# Where the files are not: how many levels deeper they are looked for, among how many of a folder's names, and what may
# lie there instead.
DEPTH, MANY = 3, 1000
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
PYTHON_FILES = ("data_batch_1", "test_batch", "batches.meta", "train", "test", "meta")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Files of one data set; a record: a byte for each of `label_limits` (the last: class), then the image."""

    title: str
    folder: str  # in the archive and in the cache
    train: dict[str, int]  # file name -> number of records
    test: dict[str, int]
    label_limits: tuple[int, ...]  # each label byte must be below its limit
    names_file: str
    class_names: tuple[str, ...]

    @property
    def record_bytes(self) -> int:
        return len(self.label_limits) + IMAGE_BYTES

    @property
    def file_bytes(self) -> dict[str, int]:
        """File name -> exact size."""
        return {file: records * self.record_bytes for file, records in (self.train | self.test).items()}


_CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
    can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter
    palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
    rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
    sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""

LAYOUTS = {
    "cifar10": Layout(
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        train={f"data_batch_{i}.bin": 10_000 for i in range(1, 6)},
        test={"test_batch.bin": 10_000},
        label_limits=(10,),
        names_file="batches.meta.txt",
        class_names=tuple(_CIFAR10_NAMES.split()),
    ),
    "cifar100": Layout(
        title="CIFAR-100",
        folder="cifar-100-binary",
        train={"train.bin": 50_000},
        test={"test.bin": 10_000},
        label_limits=(20, 100),  # coarse, fine
        names_file="fine_label_names.txt",
        class_names=tuple(_CIFAR100_NAMES.split()),
    ),
}


def read(folder: Path, name: str) -> Dataset:
    """Data set `name` (a key of `LAYOUTS`) from `folder`, or from the archive's own folder inside it.

    Inputs are (n, 32, 32, 3) uint8, labels (n,) int32; of CIFAR-100's two labels the fine one.
    """
    layout = LAYOUTS[name]
    try:
        home = _find(folder, layout)
        checksums = _read_checksums(home / CHECKSUMS)
        return Dataset(
            name=name,
            train=_read_split(home, layout, layout.train, checksums),
            test=_read_split(home, layout, layout.test, checksums),
            class_names=_read_class_names(home / layout.names_file, layout),
            source=f"{layout.title}, binary files in {home}" + (", checksums verified" if checksums else ""),
        )
    except OSError as error:  # no permission, a folder in a file's place, a failing disk
        raise DataError(
            f"{error.filename or folder}: cannot be read ({error.strerror or error}), expected the "
            f"{layout.title} binary files; make them readable, or give another folder with --data DIR"
        ) from error


def _find(folder: Path, layout: Layout) -> Path:
    """The folder that holds at least one of the files; what else is missing then has a name."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; give an existing one with --data DIR, or use --data sample")
    if not folder.is_dir():
        raise DataError(
            f"{folder}: is a file, expected a folder with the {layout.title} binary files; give the folder "
            "with --data DIR (an archive must be unpacked first)"
        )
    homes = [folder / layout.folder, folder]
    for home in homes:
        if any((home / file).exists() for file in layout.file_bytes):
            return home
    raise DataError(
        f"{folder}: holds no {layout.title} data, expected {', '.join(layout.file_bytes)} in it or in "
        f"{homes[0]}; {_advice(folder, layout)}"
    )


def _advice(folder: Path, layout: Layout) -> str:
    """What to do with a folder, by what lies there in the files' place."""
    files = [path for path in _within(folder, DEPTH) if path.is_file()]
    names = {path.name for path in files}
    for path in files:
        if path.name in layout.file_bytes:
            return f"they lie deeper, in {path.parent}: give that by --data"
    for path in files:
        if path.name.lower().endswith(ARCHIVES) and "python" not in path.name:
            unpack = f"unzip {path} -d" if path.suffix.lower() == ".zip" else f"tar xf {path} -C"
            return f"{path} is still packed: {unpack} {folder}"
    for other in LAYOUTS.values():
        if other is not layout and names >= set(other.file_bytes):
            return f"what lies there is {other.title}: give the folder of {layout.title}, or take another recipe"
    python = [path for path in files if path.name in PYTHON_FILES or "python" in path.name or "-py" in path.parent.name]
    if python:
        return (
            f"{python[0]} is of the Python version, which is pickle and is never loaded: fetch the *binary* version "
            "and unpack it there, or use --data auto to download it"
        )
    return (
        "unpack the *binary* version there (the Python version is pickle and is never loaded), or use --data auto to "
        "download it"
    )


def _within(folder: Path, depth: int) -> Iterator[Path]:
    """What lies in a folder and, so many levels down, in those inside; one that may not be looked into is left out."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    for path in paths[:MANY]:
        yield path
        if depth and path.is_dir():
            yield from _within(path, depth - 1)


def _read_checksums(path: Path) -> dict[str, str] | None:
    if not path.exists():
        return None  # files that did not come by our download have none
    try:
        checksums = json.loads(path.read_bytes())
    except ValueError:
        checksums = None
    if not isinstance(checksums, dict):
        raise DataError(f"{path}: damaged, expected a JSON object of file names and sha256; {_again(path.parent)}")
    return checksums


def _read_split(home: Path, layout: Layout, files: dict[str, int], checksums: dict[str, str] | None) -> Split:
    total = sum(files.values())
    images = np.empty((total, 32, 32, 3), np.uint8)
    labels = np.empty(total, np.int32)
    start = 0
    for file, count in files.items():
        path = home / file
        content = _read_exactly(path, layout, count)
        if checksums is not None:
            _check_content(path, content, checksums.get(file))
        records = np.frombuffer(content, np.uint8).reshape(count, layout.record_bytes)
        _check_labels(path, records, layout)
        here = slice(start, start + count)
        labels[here] = records[:, len(layout.label_limits) - 1]
        planes = records[:, len(layout.label_limits) :].reshape(count, 3, 32, 32)  # (n, C, H, W)
        images[here] = planes.transpose(0, 2, 3, 1)  # (n, H, W, C)
        start += count
    return Split(images, labels)


def _read_exactly(path: Path, layout: Layout, count: int) -> bytes:
    expected = layout.file_bytes[path.name]
    if not path.exists():
        raise DataError(f"{path}: file is missing, expected {expected:,} bytes; {_again(path.parent)}")
    with path.open("rb") as file:
        content = file.read(expected + 1)  # never more of a file that is not what its name says
    if len(content) == expected:
        return content
    if len(content) < expected:
        record = len(content) // layout.record_bytes
        what = f"cut off at byte {len(content):,}, in record {record:,}"
    else:
        what = f"{path.stat().st_size:,} bytes, too long from byte {expected:,} on"
    raise DataError(
        f"{path}: {what}, expected {expected:,} bytes ({count:,} records of {layout.record_bytes:,}); "
        f"{_again(path.parent)}"
    )


def _check_content(path: Path, content: bytes, expected: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{path}: content has changed since the download (sha256 {found}, expected {expected} as in "
            f"{CHECKSUMS}); {_again(path.parent)}"
        )


def _check_labels(path: Path, records: np.ndarray, layout: Layout) -> None:
    for column, limit in enumerate(layout.label_limits):
        bad = np.flatnonzero(records[:, column] >= limit)
        if len(bad):
            record = int(bad[0])
            raise DataError(
                f"{path}: label {records[record, column]} in record {record:,} "
                f"(byte {record * layout.record_bytes + column:,}), expected 0 to {limit - 1}; "
                f"{_again(path.parent)}"
            )


def _read_class_names(path: Path, layout: Layout) -> tuple[str, ...]:
    if not path.exists():
        return layout.class_names
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())  # the official files end in an empty line
    if len(names) != len(layout.class_names):
        raise DataError(
            f"{path}: {len(names)} class names, expected {len(layout.class_names)}, one a line; "
            "correct the file or delete it (the standard names are built in)"
        )
    return names


def _again(folder: Path) -> str:
    if (folder / CHECKSUMS).exists():  # ours, from a download
        return f"put an intact copy there, or delete the folder {folder} and download again with --data auto"
    return "put an intact copy there, or leave it and use --data auto, which downloads into a folder of its own"
