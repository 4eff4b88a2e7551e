"""Set-up of all tests: a quiet TensorFlow, and the fixtures that several files use."""

import ctypes
import gc
import importlib
import os
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A script keeps freed memory, for it takes one step over and over; a process of all tests must give it back.
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**17))
# LLVM's optimizations cost more than they save where a program runs once or twice; XLA's own passes, kernels and
# buffers stay as they are. tests/test_full_effort.py runs what users run; `XLA_FLAGS= pytest` runs everything so.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import pytest

from parts import command_line
from tests.support import file_processes
from tests.support.archive_server import server  # noqa: F401


def pytest_configure(config):
    """Under xdist each file has a process of its own."""
    if hasattr(config, "workerinput") and hasattr(os, "fork"):
        config.pluginmanager.register(file_processes.Worker(config))


@pytest.fixture(scope="module", autouse=True)
def _memory_goes_back():
    """What a file's fixtures have shared, models and graphs and their Keras twins, is gone when the file has ended."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)


@pytest.fixture
def not_under_nohup():
    """Let SIGHUP end a process, as it does where nohup has not switched it off for all that the tests start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def call(monkeypatch, capfd):
    """Return a function that runs a script in this process: (exit code, what it printed, what it complained of)."""

    def call(script, *arguments):
        module = importlib.import_module(script)
        monkeypatch.setattr("sys.argv", [f"{script}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            command_line.run(module.main, module.parser().parse_args())
        captured = capfd.readouterr()
        return stop.value.code, captured.out, captured.err

    return call
