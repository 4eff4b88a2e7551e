"""How scripts end and write: out of memory, no permission, a full disk."""

import argparse
import os
from pathlib import Path

import pytest
import tensorflow as tf

from parts import command_line


@pytest.mark.parametrize("error", [MemoryError("no 9 GiB"), tf.errors.ResourceExhaustedError(None, None, "no 9 GiB")])
def test_running_out_of_memory_is_said_in_one_line(capsys, error):
    def main(arguments):
        raise error

    with pytest.raises(SystemExit) as stop:
        command_line.run(main, argparse.Namespace(debug=False))
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: out of memory: take less at once, such as a smaller --batch-size (no 9 GiB)\n"
    )


def test_what_cannot_be_written_is_refused_at_the_door(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(argparse.ArgumentTypeError, match="no permission to write there"):
        command_line.writable_file(str(tmp_path / "a.json"))
    assert command_line.writable_file("/dev/stdout") == Path("/dev/stdout")


def test_a_file_that_cannot_be_written_whole_is_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="what was there before is kept"):
        command_line.write_json(path, {"new": 1})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
