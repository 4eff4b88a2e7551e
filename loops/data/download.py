"""Download of the official CIFAR archives into the cache: resumable, verified, all or nothing.

`fetch` is the whole story: lock, download to `<archive>.part`, verify, extract into a temporary folder,
rename. Stopped at any point, the next call goes on with the `.part` or starts clean: the folder's final name
appears only when everything in it is on the disk. Below it stands one function for each of these steps.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import sys
import tarfile
import textwrap
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from loops.data.cifar import CHECKSUMS, LAYOUTS, Layout
from loops.data.dataset import DataError

TIMEOUT = 30.0  # seconds without a byte, not of the whole download
BLOCK = 1 << 16
ALTERNATIVES = "--data sample (made by the program) or --data DIR (a folder with the binary files)"


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


def default_cache() -> Path:
    """`TFCORE_DATA` where it is set, else ~/.cache/tfcore."""
    return Path(os.environ.get("TFCORE_DATA") or "~/.cache/tfcore").expanduser()


def fetch(name: str, cache: Path | None = None, progress: bool = True) -> Path:
    """Folder of data set `name` (a key of `ARCHIVES`) in the cache, downloaded if it is not there.

    A folder that is there is given back as it is, without writing anything: `cifar.read` judges its files.
    An archive that somebody put into the cache by hand is used instead of a download, and kept.
    """
    archive, layout = ARCHIVES[name], LAYOUTS[name]
    cache = default_cache() if cache is None else cache
    folder = cache / layout.folder
    placed, part = cache / archive.file, cache / f"{archive.file}.part"
    try:
        if folder.exists():
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f".{archive.file}.lock", progress):
            if folder.exists():  # another process finished it while this one waited
                return folder
            if placed.exists():
                _verify(placed, archive)
                _extract(placed, layout, folder)
            else:
                _download(archive, part, progress)
                try:
                    _verify(part, archive)
                except DataError:
                    part.unlink()  # nothing in it can be trusted, so the next call starts over
                    raise
                _extract(part, layout, folder)
            # What is read of it is in the folder now, with checksums: keeping it would double the cache.
            part.unlink(missing_ok=True)
            return folder
    except OSError as error:  # those of the network are DataErrors already: disk full, no permission
        needed = archive.size + sum(layout.file_bytes.values())
        raise DataError(
            f"{error.filename or cache}: {error.strerror or error}, while storing {archive.url}; the cache "
            f"must be a writable folder with {needed / 1e6:,.0f} MB free: make room and run again, or name "
            f"another with TFCORE_DATA, or use {ALTERNATIVES}"
        ) from error


@contextlib.contextmanager
def _lock(path: Path, progress: bool) -> Iterator[None]:
    """One process at a time; the system frees the lock when its holder dies."""
    # The file stays for good: a lock on a deleted file would exclude nobody.
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                print(f"waiting for another process that fills {path.parent}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(archive: Archive, part: Path, progress: bool) -> None:
    """Bring `part` to the archive's full size, going on where an earlier call stopped."""
    have = part.stat().st_size if part.exists() else 0
    if have == archive.size:
        return
    try:
        # A longer file is no beginning of the archive.
        response, have = _request(archive, have if have < archive.size else 0)
    except (OSError, http.client.HTTPException) as error:
        raise _failed(archive, part, error) from error
    with response:
        # Before the part is touched: a login page must not replace half an archive.
        if response.length is not None and have + response.length != archive.size:
            raise _failed(archive, part, f"the server offers {have + response.length:,} bytes, something else")
        if progress:
            print(f"downloading {archive.url} to {part}, from byte {have:,}", file=sys.stderr, flush=True)
        bar = tqdm(
            total=archive.size,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=archive.file,
            disable=None if progress else True,  # None: shown on a terminal only
        )
        with bar, part.open("ab" if have else "wb") as file:
            while have <= archive.size:
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise _failed(archive, part, error) from error
                if not block:
                    break
                file.write(block)
                have += len(block)
                bar.update(len(block))
    if have < archive.size:
        raise _failed(archive, part, f"connection ended after {have:,} bytes")


def _request(archive: Archive, offset: int) -> tuple[http.client.HTTPResponse, int]:
    """The answer and the byte at which its body begins: `offset`, or 0 if the server cannot begin there."""
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return _request(archive, 0)
        raise
    if offset and response.status == http.HTTPStatus.PARTIAL_CONTENT:
        if response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            return response, offset
        response.close()  # a part, but not the one that was asked for
        return _request(archive, 0)
    return response, 0


def _failed(archive: Archive, part: Path, why: Exception | str) -> DataError:
    if isinstance(why, urllib.error.URLError) and not isinstance(why, urllib.error.HTTPError):
        why = why.reason  # without "<urlopen error ...>"
    reason = textwrap.shorten(str(why), 200)  # may quote what the server sent, lines and all
    return DataError(
        f"{archive.url}: download failed ({reason}), expected {archive.size:,} bytes; run again (it goes on "
        f"where it stopped), or put the archive at {part.with_name(archive.file)}, or use {ALTERNATIVES}"
    )


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
        _sync(temporary)  # content before name: after a power cut the name must not stand for empty files
        os.replace(temporary, folder)
        _sync(folder.parent)
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
                if not member.isreg() or member.size != size:
                    kind = f"{member.size:,} bytes" if member.isreg() else "no regular file"
                    raise DataError(f"{source}: {member.name} is {kind}, expected {size:,} bytes; {_not_official()}")
                yield file, tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{source}: not a readable tar.gz ({error}); {_not_official()}") from error
    if wanted:
        raise DataError(f"{source}: {', '.join(wanted)} missing in the archive; {_not_official()}")


def _not_official() -> str:
    return f"this is not the official archive: delete it and run again, or use {ALTERNATIVES}"


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
