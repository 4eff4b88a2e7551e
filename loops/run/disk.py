"""Files that are there whole or not at all: written aside, flushed to the disk, renamed."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

PARTIAL = ".partial"  # the ending of what is being written
LOCKS = "TFCORE_LOCKS"  # environment: "off" goes on without locks
# What a file system says that keeps none: some NFS, Lustre and FUSE mounts.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


def write_atomically(path: Path, write) -> None:
    """Call `write(file)` on a binary file beside `path`, flush it to disk and rename it to `path`.

    Raises:
        OSError: if the system refuses; what was at `path` before is kept.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb") as file:
            write(file)
        flush(partial)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; what was there before is kept") from error
    flush(path.parent)  # the rename itself must reach the disk


def write_text(path: Path, text: str) -> None:
    """`write_atomically` of a text file in UTF-8; of a file's name that is not, the odd bytes as \\udc80 to \\udcff."""
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def clear_partials(folder: Path) -> None:
    """Delete what writes that were killed left in a folder. The caller must be the only one who writes there."""
    for path in folder.glob(f"*{PARTIAL}"):
        path.unlink()


@contextlib.contextmanager
def locked(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`: one process at a time. Where another holds it, busy() refuses, or it is waited for.

    The kernel lets go of it however its owner ends. The file stays for good: a lock on a deleted one would exclude
    nobody.

    Raises:
        ValueError: where the file system keeps no locks, unless TFCORE_LOCKS=off says to go on without.
        OSError: if the file cannot be written.
    """
    with open(path, "w") as file:
        if os.environ.get(LOCKS) != "off":
            _lock(file, busy)
        yield


def _lock(file: TextIO, busy: Callable[[], None]) -> None:
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ValueError(
            f"{file.name}: this file system keeps no locks ({error.strerror}): name a folder on another one, or see to "
            f"it that no other process works there and go on without: {LOCKS}=off"
        ) from error


def expanded(path: Path) -> Path:
    """`path` with a leading ~ as the home folder.

    Raises:
        ValueError: where nobody can say which that is, as in a container whose user has no name.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{path}: this user has no home folder: set HOME, or TFCORE_DATA for the cache, or give another path"
        ) from error


def flush(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
