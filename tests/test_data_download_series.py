"""The download of FordA's two files against a local server: gathered, read, and only then given their final name."""

import contextlib
import threading
from pathlib import Path

import pytest

from loops.data import download, transfer, ucr
from loops.data.dataset import DataError
from tests.support.archive_server import HALF, Handler, Server

TRAIN, TEST = "FordA_TRAIN.tsv", "FordA_TEST.tsv"
LENGTH = 5_000  # so that a file is longer than HALF


def text(count: int) -> bytes:
    return b"".join(b"%d" % (1 - 2 * (i % 2)) + b"\t%d.125" % i * LENGTH + b"\n" for i in range(count))


FILES = {TRAIN: text(3), TEST: text(2)}


class FilesHandler(Handler):
    """Serves `server.files` by the last part of the path, and writes down what was asked for."""

    def do_GET(self) -> None:
        file = self.path.rsplit("/", 1)[-1]
        self.server.asked.append((file, self.headers["Range"]))
        self.server.body = self.server.files[file]
        self.server.cut_after = self.server.cuts.get(file)
        with contextlib.suppress(ConnectionError):  # the client may hang up in the middle
            super().do_GET()


@pytest.fixture
def server(monkeypatch):
    """A server with a tiny FordA, and `SERIES` pointing at it."""
    monkeypatch.setenv("no_proxy", "*")
    server = Server(b"")
    server.RequestHandlerClass = FilesHandler
    server.files, server.cuts, server.asked = dict(FILES), {}, []
    base = f"http://127.0.0.1:{server.server_address[1]}/FordA"
    tiny = download.SeriesFiles(urls=(f"{base}/{TRAIN}", f"{base}/{TEST}"), series=(3, 2), length=LENGTH)
    monkeypatch.setitem(download.SERIES, "FordA", tiny)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(cache: Path) -> Path:
    return download.fetch("FordA", cache, progress=False)


def error_of(cache: Path) -> str:
    with pytest.raises(DataError) as caught:
        fetch(cache)
    message = str(caught.value)
    assert "\n" not in message
    assert "/FordA" in message and "--data sample" in message and "--data DIR" in message
    assert "binary" not in message
    assert not (cache / "FordA").exists()
    return message


def assert_complete(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert {path.name for path in folder.parent.iterdir()} == {"FordA", ".FordA.lock"}
    assert ucr.read(folder, "FordA").train.inputs.shape == (3, LENGTH, 1)


def test_published_files():
    known = download.SERIES["FordA"]
    base = "https://raw.githubusercontent.com/hfawaz/cd-diagram/master/FordA"
    assert known.urls == (f"{base}/{TRAIN}", f"{base}/{TEST}")
    assert (known.series, known.length) == ((3601, 1320), 500)


def test_download_and_second_call(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCORE_DATA", str(tmp_path / "new" / "cache"))
    folder = download.fetch("FordA", progress=False)
    assert folder == tmp_path / "new" / "cache" / "FordA"
    assert_complete(folder)
    assert download.fetch("FordA", progress=False) == folder
    assert server.asked == [(TRAIN, None), (TEST, None)]


def test_what_the_cache_holds_is_not_downloaded(server, tmp_path):
    """Of any set: files of the UCR archive may be put there by hand."""
    for name in ("FordA", "ECG200"):
        (tmp_path / name).mkdir()
        assert download.fetch(name, tmp_path, progress=False) == tmp_path / name
    assert server.asked == []
    assert {path.name for path in tmp_path.iterdir()} == {"FordA", "ECG200"}


def test_a_set_without_a_download(server, tmp_path):
    with pytest.raises(DataError) as caught:
        download.fetch("ECG200", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"ECG200: not in the cache (no folder {tmp_path / 'ECG200'}) and no download is known")
    assert "ECG200_TRAIN.tsv and ECG200_TEST.tsv from the UCR archive (https://www.cs.ucr.edu/" in message
    assert "--data DIR" in message and "FordA" in message
    assert server.asked == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("says_length", [True, False])
def test_first_file_cut_then_resumed(server, tmp_path, says_length):
    """Where the server does not say how long the file is, only its reading can show that it was cut."""
    server.says_length = says_length
    server.cuts = {TRAIN: HALF}
    message = error_of(tmp_path)
    if says_length:
        assert f"{TRAIN}: download failed (connection ended after {HALF:,} bytes)" in message
        assert (
            f"expected {len(FILES[TRAIN]):,} bytes" in message and f"put {TRAIN} into {tmp_path / 'FordA'}" in message
        )
        assert (tmp_path / "FordA.part" / f"{TRAIN}.part").read_bytes() == FILES[TRAIN][:HALF]
    else:
        # One series, cut in its middle, is left: a file of one class.
        assert "what came is not FordA" in message and f"{TRAIN}: every line has the label 1" in message
    server.cuts = {}
    assert_complete(fetch(tmp_path))
    again = [(TRAIN, f"bytes={HALF}-"), (TEST, None)] if says_length else [(TRAIN, None), (TEST, None)]
    assert server.asked[-2:] == again


def test_second_file_cut_then_resumed(server, tmp_path):
    server.cuts = {TEST: HALF}
    assert f"{TEST}: download failed (connection ended" in error_of(tmp_path)
    server.cuts = {}
    assert_complete(fetch(tmp_path))
    assert server.asked == [(TRAIN, None), (TEST, None), (TEST, f"bytes={HALF}-")]


def test_part_that_was_complete_already(server, tmp_path):
    """Killed between the last byte and the new name: there is nothing after the end, so it is brought again."""
    (tmp_path / "FordA.part").mkdir()
    (tmp_path / "FordA.part" / f"{TRAIN}.part").write_bytes(FILES[TRAIN])
    assert_complete(fetch(tmp_path))
    assert server.asked[:2] == [(TRAIN, f"bytes={len(FILES[TRAIN])}-"), (TRAIN, None)]


WRONG = {
    "a web page": (TRAIN, b"<html>please log in</html>", "FordA_TRAIN.tsv, line 1: no number stands there"),
    "a changed value": (
        TEST,
        FILES[TEST].replace(b"1.125", b"1.1z5", 1),
        "FordA_TEST.tsv, line 2: column 2 is '1.1z5'",
    ),
    "a series less": (TRAIN, text(2), "FordA_TRAIN.tsv: 2 series of 5000 values, expected 3 of 5000"),
    "a series more": (TEST, text(3), "FordA_TEST.tsv: 3 series of 5000 values, expected 2 of 5000"),
    "another length": (TEST, b"1\t2\n-1\t3\n", "FordA_TEST.tsv, line 1: 1 value after the label, expected 5000"),
    "empty": (TEST, b"", "FordA_TEST.tsv: the file is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_content_is_removed(server, tmp_path, case):
    file, content, reason = WRONG[case]
    server.files[file] = content
    message = error_of(tmp_path)
    assert reason in message and "correct the line" not in message  # the user has no such file
    assert "what came is not FordA" in message and "the downloaded files have been removed: run again" in message
    assert {path.name for path in tmp_path.iterdir()} == {".FordA.lock"}
    server.files[file] = FILES[file]
    assert_complete(fetch(tmp_path))


@pytest.mark.parametrize("says_length", [True, False])
def test_endless_file(server, tmp_path, monkeypatch, says_length):
    limit = len(FILES[TRAIN]) + 1_000
    monkeypatch.setattr(download, "MOST_SERIES_BYTES", limit)
    server.says_length = says_length
    server.files[TEST] = b"1\t2\n" * (limit // 4 + 10 * transfer.BLOCK)
    check, gathered = download._check_series, []
    monkeypatch.setattr(
        download, "_check_series", lambda folder, *rest: (gathered.append((folder / TEST).stat()), check(folder, *rest))
    )
    message = error_of(tmp_path)
    if says_length:
        assert not gathered
        assert f"the server offers {len(server.files[TEST]):,} bytes, something else), expected at most" in message
    else:
        assert limit < gathered[0].st_size <= limit + transfer.BLOCK  # it stopped reading there
        assert "FordA_TEST.tsv, line 1: 1 value after the label" in message


def test_http_error(server, tmp_path):
    server.status = 404
    message = error_of(tmp_path)
    assert "HTTP Error 404" in message and TRAIN in message


def test_cache_is_a_file(server, tmp_path):
    (tmp_path / "cache").write_text("")
    assert f"{tmp_path / 'cache'}" in error_of(tmp_path / "cache")


def test_two_at_the_same_time_download_once(server, tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "FordA"] * 3
    assert_complete(tmp_path / "FordA")
    assert server.asked == [(TRAIN, None), (TEST, None)]
