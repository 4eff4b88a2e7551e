"""tests/support/file_processes.py: each file has a process of its own, and one that dies takes one test with it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFTEST = """
import os

import pytest
from tests.support import file_processes
file_processes.IMPORTED = ()

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(file_processes.Worker(config))

@pytest.fixture(scope="module")
def noted(request):
    # Both at the start of a file and at its end.
    for word in ("begun", "ended"):
        with open("notes", "a") as file:
            file.write(f"{request.module.__name__} {word} {os.getpid()}\\n")
        if word == "begun":
            yield
"""
FIRST = """
def test_one(noted, tmp_path):
    assert tmp_path.exists()

def test_two(noted):
    pass
"""
SECOND = """
import os, signal

def test_three(noted):
    pass

def test_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def test_plain():
    print("what it printed")
    assert 1 == 2

def test_last(noted):
    pass
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which a worker ran two files, and what pytest printed."""
    folder = tmp_path_factory.mktemp("suite")
    for name, text in (("conftest", CONFTEST), ("test_first", FIRST), ("test_second", SECOND)):
        (folder / f"{name}.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-n", "1", "--dist", "loadfile", "-p", "no:cacheprovider"]
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return folder, answer.stdout


def test_files_do_not_share_a_process_and_their_fixtures_end_with_them(ran):
    folder, text = ran
    assert "2 failed, 4 passed" in text, text
    notes = [line.split() for line in (folder / "notes").read_text().splitlines()]
    # The larger file comes first; its first process is killed, and ends nothing.
    words = [("test_second", "begun"), ("test_second", "begun"), ("test_second", "ended")]
    assert [tuple(note[:2]) for note in notes] == [*words, ("test_first", "begun"), ("test_first", "ended")]
    processes = [note[2] for note in notes]
    assert len(set(processes)) == 3 and processes[1] == processes[2] and processes[3] == processes[4]


def test_a_process_that_dies_is_named_and_the_rest_of_its_file_runs(ran):
    _, text = ran
    assert re.search(r"FAILED test_second\.py::test_killed - the process of", text), text
    assert "ended with the wait status 9" in text


def test_a_failure_shows_what_was_printed(ran):
    _, text = ran
    assert "what it printed" in text and "assert 1 == 2" in text
