"""Extraction of the archive: hostile members, damage, interruption, two processes at once."""

import contextlib
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from loops.data import cifar, download
from loops.data.dataset import DataError
from tests.support.archive_server import (
    ARCHIVE,
    FOLDER,
    HALF,
    PART,
    announce,
    assert_complete,
    error_of,
    fetch,
    member,
    members,
    pack,
)


def test_archive_placed_by_hand_is_used_and_kept(server, tmp_path):
    (tmp_path / ARCHIVE).write_bytes(server.body)
    (tmp_path / PART).write_bytes(server.body[:HALF])
    assert_complete(fetch(tmp_path))
    assert server.ranges == []
    assert (tmp_path / ARCHIVE).exists()


@pytest.mark.parametrize("damage", ["truncated", "oversized", "flipped"])
def test_damaged_archive_placed_by_hand(server, tmp_path, damage):
    body = server.body
    damaged = {"truncated": body[:-1], "oversized": body + b"x", "flipped": body[:-1] + bytes([body[-1] ^ 1])}[damage]
    (tmp_path / ARCHIVE).write_bytes(damaged)
    assert f"{tmp_path / ARCHIVE}: damaged" in error_of(tmp_path)
    assert (tmp_path / ARCHIVE).exists()  # not ours to delete


def link(kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(f"{FOLDER}/test_batch.bin")
    info.type, info.linkname = kind, "/etc/passwd"
    info.size = 3073  # a lie that a link may tell: the size alone does not give it away
    return info, b""


HOSTILE = {
    "symlink": (lambda good: [*good[:-1], link(tarfile.SYMTYPE)], "no regular file"),
    "hardlink": (lambda good: [*good[:-1], link(tarfile.LNKTYPE)], "no regular file"),
    "wrong size": (lambda good: [member(good[0][0].name, b"1234"), *good[1:]], "is 4 bytes, expected 6,146 bytes"),
    "missing": (lambda good: good[1:], f"{FOLDER}/data_batch_1.bin missing"),
    "no tar": (lambda good: None, "not a readable tar.gz"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_unexpected_archive(server, tmp_path, monkeypatch, case):
    """Its MD5 is announced as the right one: the extraction alone must refuse it."""
    change, reason = HOSTILE[case]
    entries = change(members())
    server.body = b"no archive at all" if entries is None else pack(entries)
    announce(server, monkeypatch)
    assert reason in error_of(tmp_path)


def test_other_members_are_never_written(server, tmp_path, monkeypatch):
    absolute = tmp_path / "absolute"
    folder_link = tarfile.TarInfo(FOLDER)  # would lead everything after it elsewhere
    folder_link.type, folder_link.linkname = tarfile.SYMTYPE, str(tmp_path)
    evil = [
        (folder_link, b""),
        member("../evil", b"x"),
        member(f"{FOLDER}/../../evil", b"x"),
        member(str(absolute), b"x"),
        member(f"{FOLDER}/readme.html", b"x"),
    ]
    server.body = pack(evil + members())
    announce(server, monkeypatch)
    cache = tmp_path / "a" / "cache"
    assert_complete(fetch(cache))
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in cache.parent.iterdir()} == {"cache"}


def test_checksums_find_a_flipped_bit(server, tmp_path):
    path = fetch(tmp_path) / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[99] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="content has changed since the download"):
        cifar.read(tmp_path, "cifar10")


@pytest.mark.parametrize("written", [0, 1, 4, 6])
def test_interrupted_extraction(server, tmp_path, monkeypatch, written):
    """Ctrl-C after some of the 7 files (6 is before the checksums)."""
    write, count = download._write, 0

    def interrupted(path: Path, content: bytes) -> None:
        nonlocal count
        if count == written:
            raise KeyboardInterrupt
        count += 1
        write(path, content)

    monkeypatch.setattr(download, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path)
    assert not (tmp_path / FOLDER).exists()
    monkeypatch.setattr(download, "_write", write)
    assert_complete(fetch(tmp_path))
    assert server.ranges == [None]  # the part was complete


def test_content_is_on_the_disk_before_the_name(server, tmp_path, monkeypatch):
    """A power cut cannot be staged here, the order of the calls can: 6 files, checksums, folder, rename, parent."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    assert_complete(fetch(tmp_path))
    assert calls == ["fsync"] * 8 + ["replace", "fsync"]


def test_leftovers_of_a_killed_process(server, tmp_path):
    (tmp_path / f"{FOLDER}.tmp").mkdir()
    (tmp_path / f"{FOLDER}.tmp" / "data_batch_9.bin").write_bytes(b"old")
    (tmp_path / f".{ARCHIVE}.lock").write_text("")
    assert_complete(fetch(tmp_path))


def test_two_at_the_same_time_download_once(server, tmp_path):
    """Each opens the lock file itself, so threads exclude each other as processes do."""
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / FOLDER] * 4
    assert_complete(tmp_path / FOLDER)
    assert server.ranges == [None]


def test_waits_for_the_lock_of_another_process_until_it_dies(server, tmp_path, capfd):
    lock = tmp_path / f".{ARCHIVE}.lock"
    code = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print('held',flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with contextlib.closing(holder.stdin), contextlib.closing(holder.stdout):
        assert holder.stdout.readline() == "held\n"
        thread = threading.Thread(target=download.fetch, args=("cifar10", tmp_path))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and server.ranges == []
        holder.kill()
        holder.wait()
        thread.join()
    assert_complete(tmp_path / FOLDER)
    assert "waiting for another process" in capfd.readouterr().err
