"""Download of what is published into the cache: the CIFAR archives and FordA's two files.

`fetch` is the whole story: lock, download to `<archive>.part`, verify, extract into a temporary folder,
rename. Stopped at any point, the next call goes on with the `.part` or starts clean: the folder's final name
appears only when everything in it is on the disk. Below it stands one function for each of these steps; the
network's side is in `transfer.py`.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from loops.data import transfer, ucr
from loops.data.cifar import CHECKSUMS, LAYOUTS, Layout
from loops.data.dataset import DataError
from loops.run import disk

ALTERNATIVES = "--data sample (made by the program) or --data DIR (a folder with the binary files)"
SERIES_ALTERNATIVES = "--data sample (made by the program) or --data DIR (a folder with the UCR files)"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published archive: its address, exact size in bytes and MD5 (what the authors publish)."""

    url: str
    size: int
    md5: str

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


ARCHIVES = {
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        170_052_171,
        "c32a1d4ab5d03f1284b67883e8d87530",
    ),
    "cifar100": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        168_513_733,
        "03b5dce01913d631647c71ecec9e9cb8",
    ),
}


@dataclasses.dataclass(frozen=True)
class SeriesFiles:
    """The published files of a set of series, and what is known of them: how many series, and how long."""

    urls: tuple[str, str]  # train, test
    series: tuple[int, int]
    length: int


_FORDA = "https://raw.githubusercontent.com/hfawaz/cd-diagram/master/FordA/FordA"
# Nobody publishes a checksum of these files, and they could not be fetched where this was written to compute one.
# So they are taken if they can be read and hold what the archive says of FordA.
SERIES = {
    "FordA": SeriesFiles(
        urls=(f"{_FORDA}_TRAIN.tsv", f"{_FORDA}_TEST.tsv"),
        series=(3601, 1320),
        length=500,
    ),
}
MOST_SERIES_BYTES = 100_000_000  # a file; the larger one must have about 20 MB, judged by lines that are known


def default_cache() -> Path:
    """`TFCORE_DATA` where it is set, else ~/.cache/tfcore."""
    return disk.expanded(Path(os.environ.get("TFCORE_DATA") or "~/.cache/tfcore"))


def fetch(name: str, cache: Path | None = None, progress: bool = True) -> Path:
    """Folder of data set `name` in the cache, downloaded if it is not there: a key of `ARCHIVES` or `SERIES`.

    A folder that is there is given back as it is, without writing anything: `cifar.read` or `ucr.read` judges its
    files. An archive that somebody put into the cache by hand is used instead of a download, and kept.

    Raises:
        DataError: for a set that is not there and has no download, and for whatever goes wrong with one that has.
    """
    cache = default_cache() if cache is None else cache
    if name not in ARCHIVES:
        return _fetch_series(name, cache, progress)
    archive, layout = ARCHIVES[name], LAYOUTS[name]
    folder = cache / layout.folder
    placed, part = cache / archive.file, cache / f"{archive.file}.part"
    remote = transfer.Remote(archive.url, archive.size, f"put the archive at {placed}, or use {ALTERNATIVES}")
    # The archive and what is extracted of it lie there at the same time.
    with _storing(archive.url, cache, archive.size + sum(layout.file_bytes.values()), ALTERNATIVES):
        if folder.exists():
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        with transfer.lock(cache / f".{archive.file}.lock", progress):
            if folder.exists():  # another process finished it while this one waited
                return folder
            if placed.exists():
                _verify(placed, archive)
                _extract(placed, layout, folder)
            else:
                transfer.download(remote, part, progress)
                try:
                    _verify(part, archive)
                except DataError:
                    part.unlink()  # nothing in it can be trusted, so the next call starts over
                    raise
                _extract(part, layout, folder)
            # What is read of it is in the folder now, with checksums: keeping it would double the cache.
            part.unlink(missing_ok=True)
            return folder


def _fetch_series(name: str, cache: Path, progress: bool) -> Path:
    """As `fetch`: both files are gathered in `<name>.part`, which gets its final name when they have been read."""
    folder, gathered = cache / name, cache / f"{name}.part"
    published = SERIES.get(name)
    source = published.urls[0].rsplit("/", 1)[0] if published else name
    with _storing(source, cache, 2 * MOST_SERIES_BYTES, SERIES_ALTERNATIVES):
        if folder.exists():
            return folder
        if published is None:
            raise DataError(
                f"{name}: not in the cache (no folder {folder}) and no download is known, expected one of "
                f"{', '.join([*ARCHIVES, *SERIES])}; get {name}_TRAIN.tsv and {name}_TEST.tsv from the UCR archive "
                f"({ucr.ARCHIVE}) and name their folder with --data DIR, or use --data sample"
            )
        cache.mkdir(parents=True, exist_ok=True)
        with transfer.lock(cache / f".{name}.lock", progress):
            if folder.exists():
                return folder
            gathered.mkdir(exist_ok=True)
            for url in published.urls:
                path = gathered / url.rsplit("/", 1)[-1]
                if path.exists():  # complete: an earlier call stopped in the other file
                    continue
                otherwise = f"put {path.name} into {folder} (both files), or use {SERIES_ALTERNATIVES}"
                part = path.with_name(f"{path.name}.part")
                transfer.download(transfer.Remote(url, MOST_SERIES_BYTES, otherwise, exact=False), part, progress)
                disk.flush(part)
                os.replace(part, path)
            try:
                _check_series(gathered, name, published)
            except DataError as error:
                shutil.rmtree(gathered)  # as with an archive: the next call starts over
                finding = str(error).split("; ")[0]  # without the remedy, which is for files of one's own
                raise DataError(
                    f"{source}: what came is not {name} ({finding}); the downloaded files have been removed: run "
                    f"again, or use {SERIES_ALTERNATIVES}"
                ) from error
            disk.flush(gathered)
            os.replace(gathered, folder)
            disk.flush(cache)
            return folder


def _check_series(folder: Path, name: str, published: SeriesFiles) -> None:
    data = ucr.read(folder, name)
    for part, split, count in zip(ucr.PARTS, (data.train, data.test), published.series, strict=True):
        found = split.inputs.shape[:2]
        if found != (count, published.length):
            raise DataError(
                f"{name}_{part}.tsv: {found[0]:,} series of {found[1]} values, expected {count:,} of {published.length}"
            )


@contextlib.contextmanager
def _storing(url: str, cache: Path, needed: int, alternatives: str) -> Iterator[None]:
    """Say of a failing disk what to do; errors of the network are DataErrors already."""
    try:
        yield
    except OSError as error:  # disk full, no permission
        raise DataError(
            f"{error.filename or cache}: {error.strerror or error}, while storing {url}; the cache must be a writable "
            f"folder with {needed / 1e6:,.0f} MB free: make room and run again, or name another with TFCORE_DATA, "
            f"or use {alternatives}"
        ) from error


def _verify(path: Path, archive: Archive) -> None:
    size = path.stat().st_size
    if size != archive.size:
        found = f"{size:,} bytes"
    else:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found == archive.md5:
            return
        found = f"MD5 {found}"
    raise DataError(
        f"{path}: damaged, or not the archive at {archive.url}: {found}, expected {archive.size:,} bytes, "
        f"MD5 {archive.md5}; delete it if it is still there and run again, or use {ALTERNATIVES}"
    )


def _extract(source: Path, layout: Layout, folder: Path) -> None:
    """Write the layout's files and their checksums, nothing else of the archive; then rename into place."""
    # One fixed name will do under the lock, and what a killed process left is cleared by the next one.
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        checksums = {}
        for file, content in _members(source, layout):
            _write(temporary / file, content)
            checksums[file] = hashlib.sha256(content).hexdigest()
        _write(temporary / CHECKSUMS, json.dumps(checksums, indent=2).encode())
        disk.flush(temporary)  # content before name: after a power cut the name must not stand for empty files
        os.replace(temporary, folder)
        disk.flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _members(source: Path, layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the layout; the name is the layout's, never the archive's own."""
    wanted = {f"{layout.folder}/{file}": (file, size) for file, size in layout.file_bytes.items()}
    try:
        with tarfile.open(source, "r:gz") as tar:
            for member in tar:
                if member.name not in wanted:
                    continue
                file, size = wanted.pop(member.name)
                content = tar.extractfile(member) if member.isreg() and member.size == size else None
                if content is None:
                    kind = f"{member.size:,} bytes" if member.isreg() else "no regular file"
                    raise DataError(f"{source}: {member.name} is {kind}, expected {size:,} bytes; {_not_official()}")
                yield file, content.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{source}: not a readable tar.gz ({error}); {_not_official()}") from error
    if wanted:
        raise DataError(f"{source}: {', '.join(wanted)} missing in the archive; {_not_official()}")


def _not_official() -> str:
    return f"this is not the official archive: delete it and run again, or use {ALTERNATIVES}"


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    disk.flush(path)
