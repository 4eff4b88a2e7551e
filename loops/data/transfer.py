"""One file from the network: resumable, and by one process at a time. What is right in it, the caller knows."""

import contextlib
import dataclasses
import http.client
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from loops.data.dataset import DataError
from loops.run import disk

TIMEOUT = 30.0  # seconds without a byte, not of the whole download
BLOCK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file to bring: its address, its size in bytes, and how else its user can help himself (for the messages)."""

    url: str
    size: int
    otherwise: str
    exact: bool = True  # False: the size is not known, and `size` is more than it can be


@contextlib.contextmanager
def lock(path: Path, progress: bool) -> Iterator[None]:
    """One process at a time; the others wait, and say so on `progress`."""

    def say() -> None:
        if progress:
            print(f"waiting for another process that fills {path.parent}", file=sys.stderr, flush=True)

    with disk.locked(path, say):
        yield


def download(remote: Remote, part: Path, progress: bool) -> None:
    """Bring `part` to the file's full size, going on where an earlier call stopped.

    Raises:
        DataError: for whatever the network or the server does; what came until then stays in `part`.
        OSError: where `part` cannot be written.
    """
    have = part.stat().st_size if part.exists() else 0
    if have == remote.size:
        return
    try:
        # A longer file is no beginning of this one.
        response, have = _request(remote, have if have < remote.size else 0)
    except (OSError, http.client.HTTPException) as error:
        raise _failed(remote, error) from error
    with response:
        size = _size(remote, response, have)
        if progress:
            print(f"downloading {remote.url} to {part}, from byte {have:,}", file=sys.stderr, flush=True)
        bar = tqdm(
            total=size,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=remote.url.rsplit("/", 1)[-1],
            disable=None if progress else True,  # None: shown on a terminal only
        )
        most = remote.size if size is None else size
        with bar, part.open("ab" if have else "wb") as file:
            while have <= most:
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise _failed(remote, error) from error
                if not block:
                    break
                file.write(block)
                have += len(block)
                bar.update(len(block))
    if size is not None and have < size:
        raise _failed(remote, f"connection ended after {have:,} bytes", size)


def _size(remote: Remote, response: http.client.HTTPResponse, have: int) -> int | None:
    """The file's full size, None if nobody says it; refused before the part is touched if it cannot be right."""
    offered = None if response.length is None else have + response.length
    # A login page must not replace half an archive.
    if offered is not None and (offered > remote.size or (remote.exact and offered < remote.size)):
        raise _failed(remote, f"the server offers {offered:,} bytes, something else")
    return remote.size if remote.exact else offered


def _request(remote: Remote, offset: int) -> tuple[http.client.HTTPResponse, int]:
    """The answer and the byte at which its body begins: `offset`, or 0 if the server cannot begin there."""
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return _request(remote, 0)
        raise
    if offset and response.status == http.HTTPStatus.PARTIAL_CONTENT:
        if response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            return response, offset
        response.close()  # a part, but not the one that was asked for
        return _request(remote, 0)
    return response, 0


def _failed(remote: Remote, why: BaseException | str, size: int | None = None) -> DataError:
    if isinstance(why, urllib.error.URLError) and not isinstance(why, urllib.error.HTTPError):
        why = why.reason  # without "<urlopen error ...>"
    reason = textwrap.shorten(str(why), 200)  # may quote what the server sent, lines and all
    expected = f"{size or remote.size:,} bytes" if remote.exact or size else f"at most {remote.size:,} bytes"
    return DataError(
        f"{remote.url}: download failed ({reason}), expected {expected}; run again (it goes on where it stopped), "
        f"or {remote.otherwise}"
    )
