"""Set-up of all tests: a quiet TensorFlow, and the fixtures that several files use."""

import importlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from parts import command_line
from tests.support.archive_server import server  # noqa: F401


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
