"""The download against a local server that behaves well, badly or not at all."""

import dataclasses
import hashlib
import socket
import threading
from pathlib import Path

import pytest

from loops.data import cifar, download, transfer
from tests.support.archive_server import ARCHIVE, CHUNKED, FOLDER, HALF, PART, assert_complete, error_of, fetch


def test_official_archives():
    assert len(download.ARCHIVES) == len(cifar.LAYOUTS) == 2
    assert download.ARCHIVES["cifar10"].file == ARCHIVE
    assert download.ARCHIVES["cifar10"].size == 170_052_171
    assert download.ARCHIVES["cifar10"].md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert download.ARCHIVES["cifar100"].file == "cifar-100-binary.tar.gz"
    assert download.ARCHIVES["cifar100"].size == 168_513_733
    assert download.ARCHIVES["cifar100"].md5 == "03b5dce01913d631647c71ecec9e9cb8"


def test_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TFCORE_DATA", str(tmp_path))
    assert download.default_cache() == tmp_path
    monkeypatch.delenv("TFCORE_DATA")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert download.default_cache() == Path("/home/somebody/.cache/tfcore")


def test_download_and_second_call(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCORE_DATA", str(tmp_path / "new" / "cache"))
    folder = download.fetch("cifar10", progress=False)
    assert folder == tmp_path / "new" / "cache" / FOLDER
    assert_complete(folder)
    assert download.fetch("cifar10", progress=False) == folder
    assert server.ranges == [None]


def test_progress_off_a_terminal_is_one_line(server, tmp_path, capfd):
    download.fetch("cifar10", tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    url = download.ARCHIVES["cifar10"].url
    assert captured.err == f"downloading {url} to {tmp_path / PART}, from byte 0\n"


def test_folder_in_the_cache_needs_no_network_and_no_writing(server, tmp_path):
    (tmp_path / FOLDER).mkdir()
    assert fetch(tmp_path) == tmp_path / FOLDER
    assert server.ranges == []
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]


def test_resume(server, tmp_path):
    (tmp_path / PART).write_bytes(server.body[:HALF])
    assert_complete(fetch(tmp_path))
    assert server.ranges == [f"bytes={HALF}-"]


def test_complete_part_is_not_asked_for_again(server, tmp_path):
    (tmp_path / PART).write_bytes(server.body)
    assert_complete(fetch(tmp_path))
    assert server.ranges == []


def test_server_ignores_range(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / PART).write_bytes(server.body[:HALF])
    assert_complete(fetch(tmp_path))
    assert server.ranges == [f"bytes={HALF}-"]


def test_server_sends_another_range(server, tmp_path):
    server.range_shift = 5
    (tmp_path / PART).write_bytes(server.body[:HALF])
    assert_complete(fetch(tmp_path))
    assert server.ranges == [f"bytes={HALF}-", None]


def test_range_not_satisfiable(server, tmp_path):
    server.range_shift = len(server.body)
    (tmp_path / PART).write_bytes(server.body[:HALF])
    assert_complete(fetch(tmp_path))
    assert server.ranges == [f"bytes={HALF}-", None]


def test_part_longer_than_the_archive(server, tmp_path):
    (tmp_path / PART).write_bytes(server.body + b"more")
    assert_complete(fetch(tmp_path))
    assert server.ranges == [None]


@pytest.mark.parametrize("says_length", [True, False])
def test_connection_cut_then_resumed(server, tmp_path, says_length):
    server.says_length = says_length
    server.cut_after = HALF
    message = error_of(tmp_path)
    assert f"connection ended after {HALF:,} bytes" in message
    assert f"expected {len(server.body):,} bytes" in message
    assert (tmp_path / PART).read_bytes() == server.body[:HALF]
    server.cut_after = None
    assert_complete(fetch(tmp_path))
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_flipped_byte(server, tmp_path):
    good = server.body
    server.body = good[:HALF] + bytes([good[HALF] ^ 1]) + good[HALF + 1 :]
    message = error_of(tmp_path)
    assert hashlib.md5(server.body).hexdigest() in message and hashlib.md5(good).hexdigest() in message
    assert not (tmp_path / PART).exists()
    server.body = good
    assert_complete(fetch(tmp_path))


def test_wrong_start_of_a_part_is_thrown_away(server, tmp_path):
    (tmp_path / PART).write_bytes(b"x" * HALF)
    assert "damaged" in error_of(tmp_path)
    assert_complete(fetch(tmp_path))


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_another_file_does_not_touch_the_part(server, tmp_path, knows_ranges):
    good = server.body
    server.knows_ranges = knows_ranges
    server.body = b"<html>please log in</html>" * 1_000
    (tmp_path / PART).write_bytes(good[:HALF])
    assert f"the server offers {len(server.body):,} bytes" in error_of(tmp_path)
    assert (tmp_path / PART).read_bytes() == good[:HALF]


def test_endless_body_is_cut_and_refused(server, tmp_path):
    size = len(server.body)
    server.says_length = False
    server.body += b"x" * 10 * transfer.BLOCK
    message = error_of(tmp_path)
    assert "damaged" in message
    assert f"{size + 10 * transfer.BLOCK:,} bytes" not in message  # it stopped reading before
    assert not (tmp_path / PART).exists()


@pytest.mark.parametrize("status", [404, 403, 503])
def test_http_error(server, tmp_path, status):
    server.status = status
    (tmp_path / PART).write_bytes(server.body[:HALF])
    message = error_of(tmp_path)
    assert f"HTTP Error {status}" in message
    assert str(tmp_path / ARCHIVE) in message
    assert (tmp_path / PART).stat().st_size == HALF


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"nonsense\r\n\r\n", "nonsense"), (CHUNKED + b"9\r\nabc", "IncompleteRead")],
    ids=["no HTTP", "cut in a chunk"],
)
def test_broken_protocol(server, tmp_path, raw, reason):
    server.raw = raw
    assert reason in error_of(tmp_path)


def test_connection_refused(server, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{ARCHIVE}"  # bound, but nobody listens
        archive = dataclasses.replace(download.ARCHIVES["cifar10"], url=url)
        monkeypatch.setitem(download.ARCHIVES, "cifar10", archive)
        assert "Connection refused" in error_of(tmp_path)


def test_unknown_host(server, tmp_path, monkeypatch):
    archive = dataclasses.replace(download.ARCHIVES["cifar10"], url=f"http://nowhere.invalid/{ARCHIVE}")
    monkeypatch.setitem(download.ARCHIVES, "cifar10", archive)
    assert "download failed ([Errno -" in error_of(tmp_path)


def test_silent_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.1)
    server.silent_until = threading.Event()
    try:
        assert "timed out" in error_of(tmp_path)
    finally:
        server.silent_until.set()


def test_disk_full(server, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / PART).symlink_to("/dev/full")
    message = error_of(tmp_path)
    assert f"{tmp_path}: No space left on device" in message
    assert "TFCORE_DATA" in message


def test_cache_is_a_file(server, tmp_path):
    (tmp_path / "cache").write_text("")
    assert f"{tmp_path / 'cache'}" in error_of(tmp_path / "cache")
