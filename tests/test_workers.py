"""Two processes that TF_CONFIG names: values, one writer, stopping together, resuming, and a worker that is lost."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loops.run.runs import Run
from tests.support.one_device import assert_close, one_device
from tests.support.runs import assert_same_state, state

ROOT = Path(__file__).parents[1]
CASES = ("cnn", "cnn_sync", "mlp_xla")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives to connections: other tests make many."""
    ports = []
    while len(ports) < count:
        port = secrets.choice(range(20000, 30000))
        with contextlib.suppress(OSError), socket.create_server(("localhost", port)):
            ports.append(port)
    return ports


def start_pair(command: list[str]) -> list[subprocess.Popen]:
    """Start a command as worker 0 and as worker 1."""
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    pair = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(config)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        pair.append(subprocess.Popen([sys.executable, *command], env=environment, cwd=ROOT, **pipes))
    return pair


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """What two workers made, of which the second was killed at last."""
    folder = tmp_path_factory.mktemp("workers")
    pair = start_pair(["-m", "tests.support.divided", "1", str(folder), *CASES, "runs"])
    errors = [process.communicate(timeout=600)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, -9], errors
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_workers_are_one_device(divided, case):
    assert_close(divided / f"{case}.npz", one_device(case))


def test_a_signal_to_one_worker_stops_both_and_they_resume_to_the_same_bits(divided):
    whole = Run.open(divided / "whole")
    assert_same_state(state(Run.open(divided / "cut")), state(whole))
    environment = whole.read_json("environment.json")
    assert (environment["replicas"], environment["workers"]) == (2, 2) and whole.recipe.workers == 2


def test_a_lost_worker_is_named_by_the_other(divided):
    assert "worker 0 has lost another worker" in (divided / "lost.txt").read_text()
    assert not (divided / "lost" / "summary.json").exists()


def test_train_py_as_two_workers(tmp_path):
    """One of them writes and prints; what does not agree is refused on both."""
    command = [str(Path("scripts") / "train.py"), "cnn_cifar10", "--data", "sample", "--epochs", "1", "--xla", "off"]
    for setting in ("filters=3,5", "units=7", "train_examples=70", "batch_size=32", "validation=0.2"):
        command += ["--set", setting]
    pair = start_pair([*command, "--out", str(tmp_path / "run")])
    (chief, error), (other, other_error) = (process.communicate(timeout=600) for process in pair)
    assert [process.returncode for process in pair] == [0, 0], (error, other_error)
    assert "epoch   1/1" in chief and "test split, weights of the best epoch" in chief
    assert other == "worker 1 of 2: waits for the others of TF_CONFIG (till then only SIGKILL ends it)\n"
    assert Run.open(tmp_path / "run").read_json("summary.json")["epochs"] == 1
