"""Systems and terminals as people have them: no home, no locks, no TensorFlow, a hangup, a full disk, odd names."""

import errno
import fcntl
import json
import logging
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loops.data import download
from loops.run import disk
from loops.run.runs import sole_owner
from loops.run.signals import STOPPING, Interrupted, interruption
from parts import command_line

ROOT = Path(__file__).parents[1]


# Signals.


@pytest.mark.usefixtures("not_under_nohup")
@pytest.mark.parametrize("number", STOPPING)
def test_each_signal_that_asks_to_stop_is_heard(number):
    before = signal.getsignal(number)
    with interruption() as asked:
        assert asked.number is None
        os.kill(os.getpid(), number)
        assert asked.number == number
    assert signal.getsignal(number) == before
    assert command_line.stop_code(Interrupted(number)) == 128 + number


def test_a_hangup_that_nohup_has_switched_off_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert asked.number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# Locks.


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_there_is_a_way_on(tmp_path, monkeypatch, number):
    def refuse(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    refused = pytest.raises(ValueError, match=rf"{tmp_path}/.lock: this file system keeps no locks.*TFCORE_LOCKS=off")
    with refused, sole_owner(tmp_path):
        pytest.fail("entered")
    monkeypatch.setenv("TFCORE_LOCKS", "off")
    with sole_owner(tmp_path):
        pass


def test_a_lock_that_fails_otherwise_is_no_missing_lock(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=r"cannot write into .*: Input/output error"), sole_owner(tmp_path):
        pytest.fail("entered")


# Homes.


def test_without_a_home_a_path_with_a_tilde_is_refused(tmp_path, monkeypatch):
    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(pwd, "getpwnam", nobody)
    monkeypatch.delenv("TFCORE_DATA", raising=False)
    asks = [lambda name=name: disk.expanded(Path(name)) for name in ("~/data", "~stranger/data")]
    for ask in (download.default_cache, *asks):
        with pytest.raises(ValueError, match="no home folder: set HOME, or TFCORE_DATA for the cache"):
            ask()
    monkeypatch.setenv("TFCORE_DATA", str(tmp_path))
    assert download.default_cache() == tmp_path and disk.expanded(tmp_path) == tmp_path


# Installations.


@pytest.mark.parametrize(
    "failure",
    [
        "ImportError('libtensorflow_cc.so.2: failed to map segment from shared object')",
        "ModuleNotFoundError(\"No module named 'tensorflow'\")",
        "OSError(12, 'Cannot allocate memory')",
        "MemoryError()",
    ],
)
def test_a_tensorflow_that_cannot_be_loaded_is_one_line(tmp_path, failure):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(f"raise {failure}\n")
    result = _python(ROOT / "scripts" / "compare_published.py", environment={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: TensorFlow cannot be loaded (") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["-S", ROOT / "scripts" / "train.py", "--help"],  # -S: without what is installed
        ["-S", "-m", "scripts.train", "--help"],
        ["-S", "-m", "scripts.inspect_kernels", "--help"],
    ],
)
def test_a_checkout_works_without_being_installed(tmp_path, arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = _python(*arguments, cwd=ROOT if "-m" in arguments else tmp_path, environment=environment)
    assert result.returncode == 0 and "examples:" in result.stdout, result.stderr


def test_scripts_start_without_keras_and_have_all_of_it_when_they_ask():
    program = (
        "import sys; from parts import command_line; command_line.import_tensorflow_quietly(); "
        "print([name for name in sys.modules if name.split('.')[0] in ('keras', 'matplotlib')]); "
        "import keras, tensorflow as tf; print(tf.keras.optimizers.Adam is keras.optimizers.Adam)"
    )
    result = _python("-c", program, environment={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"})
    assert result.stdout == "[]\nTrue\n", result.stderr


def test_several_trainings_in_a_process_bring_no_warnings_of_traces(caplog):
    import tensorflow as tf

    command_line.import_tensorflow_quietly()
    command_line.import_tensorflow_quietly()  # which adds nothing
    kept = [line for line in tf.get_logger().filters if line is command_line.no_warning_of_traces]
    assert len(kept) == 1
    for message, passes in (
        ("5 out of the last 5 calls to <f> triggered tf.function retracing.", False),
        ("AutoGraph could not transform <f>", True),
    ):
        record = logging.LogRecord("tensorflow", logging.WARNING, "x.py", 1, message, (), None)
        assert bool(tf.get_logger().filter(record)) == passes


# Output.


def test_files_are_whole_though_the_reader_has_gone(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    assert _printed_into(_closed_pipe(), monkeypatch, path) == command_line.READER_GONE
    assert json.loads(path.read_text()) == [1, 2]


def test_files_are_whole_though_the_disk_of_the_output_is_full(tmp_path, monkeypatch, capfd):
    path = tmp_path / "result.json"
    with open("/dev/full", "w") as full:
        assert _printed_into(full, monkeypatch, path) == command_line.WRONG_INPUT
    assert json.loads(path.read_text()) == [1, 2]
    assert capfd.readouterr().err == "error: No space left on device\n"


def test_without_files_the_work_ends_with_its_reader(monkeypatch):
    assert _printed_into(_closed_pipe(), monkeypatch, None) == command_line.READER_GONE


def test_names_that_are_not_utf8_are_written_with_their_bytes_spelled_out(tmp_path):
    name = os.fsdecode(b"run\xff")
    path = tmp_path / f"{name}.md"
    disk.write_text(path, f"| {name} |")
    assert path.read_text() == "| run\\udcff |"
    figures = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure()
    figure.suptitle(name)
    command_line.save_figure(figure, tmp_path / name / "title.png")
    assert (tmp_path / name / "title.png").read_bytes().startswith(b"\x89PNG")


def _closed_pipe():
    """Standard output into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def _printed_into(stream, monkeypatch, path: Path | None) -> int:
    """The exit code of a command that prints much into a stream, and then writes a file, if it is asked to."""

    def main(arguments) -> int:
        print("x" * 100_000, flush=True)
        command_line.write_json(arguments.json, [1, 2])
        return 0

    parser = command_line.Parser("", "")
    with monkeypatch.context() as patch, stream, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "stdout", stream)
        command_line.run(main, parser.parse_args([] if path is None else ["--json", str(path)]))
    return stop.value.code


def _python(*arguments, environment: dict[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
