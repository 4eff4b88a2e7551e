"""study_cnn.py: runs that are there already, from train.py or an interrupted study, are gone on with."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import study_cnn
import train as train_script

from loops import train as train_module
from loops.studies import study
from parts import command_line
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()
SCRIPT = Path(__file__).parents[1] / "scripts" / "study_cnn.py"
SMALL = ["--set", "xla=off", "--set", "filters=3,5,7", "--set", "units=11"]
TINY = ["--data", "sample", "--epochs", "2", "--batch-size", "32", *SMALL]


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    monkeypatch.setattr("loops.data.sample.images", lambda classes: DATASET)


def _call(*arguments) -> int:
    words = [str(argument) for argument in arguments]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["study_cnn.py", *words])
        command_line.run(study_cnn.main, study_cnn.parser().parse_args(words))
    return stop.value.code


def _lines(out) -> list[dict]:
    with open(out / "study.csv", newline="") as file:
        return list(csv.DictReader(file))


def _line(out, row) -> dict:
    (line,) = [line for line in _lines(out) if line["row"] == row]
    return line


def _interrupt_at(monkeypatch, batch: int) -> None:
    """Press Ctrl-C, once, while the training of that batch (from 1, over all runs) is under way."""
    places = train_module.train_places
    count = 0

    def interrupting(*arguments, **options):
        nonlocal count
        for item in places(*arguments, **options):
            count += 1
            if count == batch:
                signal.raise_signal(signal.SIGINT)
            yield item

    monkeypatch.setattr(train_module, "train_places", interrupting)


def _train_py(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        command_line.run(train_script.main, train_script.parser().parse_args([str(argument) for argument in arguments]))
    return stop.value.code


@pytest.mark.parametrize("finished", [True, False])
def test_runs_of_train_py_are_adopted(tmp_path, monkeypatch, capsys, finished):
    place = tmp_path / "out" / "published" / "l2" / "seed-0"
    command = ["cnn_cifar10", *TINY, "--set", "l2=0.01", "--out"]
    assert _train_py(*command, tmp_path / "whole") == 0
    if finished:
        shutil.copytree(tmp_path / "whole", place)
        monkeypatch.setattr(study, "train", None)  # must not be called
        files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    else:
        _interrupt_at(monkeypatch, batch=5)  # the second of the second epoch
        assert _train_py(*command, place) == command_line.INTERRUPTED
    assert _call(*TINY, "--out", tmp_path / "out", "--only", "l2") == 0
    if finished:
        assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == files
    else:
        assert "1/1: going on with published/l2, seed 0" in capsys.readouterr().out
    expected = json.loads((tmp_path / "whole" / "summary.json").read_text())["last"]
    line = _line(tmp_path / "out", "l2")
    assert (float(line["test_loss"]), float(line["train_loss"])) == (expected["val_loss"], expected["loss"])


def test_interrupted_and_called_again(tmp_path, monkeypatch, capsys):
    """Ctrl-C in the second row's second epoch; the same command then ends it as the uninterrupted study did."""
    whole = tmp_path / "whole"
    assert _call(*TINY, "--out", whole, "--only", "base", "dropout") == 0
    _interrupt_at(monkeypatch, batch=11)
    command = [*TINY, "--out", tmp_path / "out", "--only", "base", "dropout"]
    assert _call(*command) == command_line.INTERRUPTED
    captured = capsys.readouterr()
    expected = f"Go on with:\n  python scripts/study_cnn.py {' '.join(map(str, command))}\n"
    assert captured.err.endswith(expected) and "Traceback" not in captured.err
    marks = [(line["row"], line["finished"], line["epochs_done"]) for line in _lines(tmp_path / "out")]
    assert marks == [("base", "True", "2"), ("dropout", "False", "1")]
    assert _call(*command) == 0
    assert "going on with published/dropout" in capsys.readouterr().out
    for row in ("base", "dropout"):
        one, other = (_line(out, row) for out in (whole, tmp_path / "out"))
        assert {**one, "seconds": ""} == {**other, "seconds": ""}


def test_ctrl_c_on_a_real_process(tmp_path):
    out = tmp_path / "out"
    arguments = [
        "--data",
        "sample",
        "--epochs",
        "1000",
        "--batch-size",
        "100",
        *SMALL,
        "--only",
        "base",
        "tanh",
        "--out",
        str(out),
    ]
    command = [sys.executable, str(SCRIPT), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   1/"):
            break
    second = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert second.returncode == 2 and second.stderr.count("\n") == 1, second.stderr
    assert second.stderr == f"error: {out}: another process is at work on this study: wait for it, or stop it\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 130 and "Traceback" not in error
    assert f"python scripts/study_cnn.py {' '.join(arguments)}" in error
    assert _lines(out)[0]["finished"] == "False"
