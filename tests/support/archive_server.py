"""A tiny archive of CIFAR-10's layout, a local server that can misbehave, and what the download tests ask of them."""

import dataclasses
import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from loops.data import cifar, download
from loops.data.dataset import DataError

FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
PART = f"{ARCHIVE}.part"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HALF = 20_000  # bytes already there, or sent before the connection is cut; less than the archive has


def contents() -> dict[str, bytes]:
    """Files of the tiny layout: noise (so that the archive is not small), labels 0."""
    generator = np.random.default_rng(3)
    files = {}
    for file, size in cifar.LAYOUTS["cifar10"].file_bytes.items():
        records = generator.integers(0, 256, (size // 3073, 3073), np.uint8)
        records[:, 0] = 0
        files[file] = records.tobytes()
    return files


def member(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def members() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"{FOLDER}/{file}", content) for file, content in contents().items()]


def pack(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content) if content else None)
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `body`; the other attributes are its misbehaviour, `ranges` the Range headers it was sent."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.status = 200
        self.knows_ranges = True
        self.range_shift = 0
        self.says_length = True
        self.cut_after: int | None = None
        self.silent_until: threading.Event | None = None  # accepts, and does not answer before
        self.raw: bytes | None = None  # sent instead of an answer
        self.ranges: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.ranges.append(wanted)
        if server.silent_until is not None:
            server.silent_until.wait(5)
            return
        if server.raw is not None:
            self.wfile.write(server.raw)
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if wanted and server.knows_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) + server.range_shift
            if start >= len(server.body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        else:
            self.send_response(200)
        body = server.body[start:]
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if server.cut_after is None else body[: server.cut_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    """A server with a good archive of a tiny layout, and `ARCHIVES` pointing at it."""
    monkeypatch.setenv("no_proxy", "*")
    layout = cifar.LAYOUTS["cifar10"]
    tiny = dataclasses.replace(layout, train=dict.fromkeys(layout.train, 2), test=dict.fromkeys(layout.test, 1))
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", tiny)
    server = Server(pack(members()))
    announce(server, monkeypatch)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def announce(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what the server holds now the official archive."""
    url = f"http://127.0.0.1:{server.server_address[1]}/data/{ARCHIVE}"
    archive = download.Archive(url, len(server.body), hashlib.md5(server.body).hexdigest())
    monkeypatch.setitem(download.ARCHIVES, "cifar10", archive)


def fetch(cache: Path) -> Path:
    return download.fetch("cifar10", cache, progress=False)


def error_of(cache: Path) -> str:
    with pytest.raises(DataError) as caught:
        fetch(cache)
    message = str(caught.value)
    assert "\n" not in message
    assert download.ARCHIVES["cifar10"].url in message or "not the official archive" in message
    assert "--data sample" in message and "--data DIR" in message
    assert not (cache / FOLDER).exists()
    assert not (cache / f"{FOLDER}.tmp").exists()
    return message


def assert_complete(folder: Path) -> None:
    """Exactly the right files with the right content, nothing left beside them but the lock, and readable."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files.pop("checksums.json")
    assert files == contents()
    left = {path.name for path in folder.parent.iterdir()} - {ARCHIVE}
    assert left == {FOLDER, f".{ARCHIVE}.lock"}
    assert "checksums verified" in cifar.read(folder.parent, "cifar10").source
