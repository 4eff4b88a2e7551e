"""study_recipe.py: a recipe beside changed ones of it, by the validation split alone."""

import json

import pytest

from loops import data
from loops.run.runs import Run
from loops.studies.changes import entries_of, table_of
from loops.studies.study import Result
from tests.support.runs import NARROW
from tests.support.tiny import tiny_dataset


def _result(row, accuracies, seed=0):
    history = [{"val_accuracy": accuracy, "val_loss": 2 - accuracy, "seconds": 2.0} for accuracy in accuracies]
    return Result(row, None, None, history, {}, {})


def test_rows_stand_beside_the_first():
    found = entries_of([_result("base", [0.1, 0.5, 0.4]), _result("x=1", [0.3, 0.2]), _result("base", [0.2, 0.3])])
    assert [entry["change"] for entry in found] == ["base", "x=1"]
    assert found[0]["last"] == pytest.approx(0.35) and found[0]["best"] == pytest.approx(0.4)
    assert found[1]["difference"] == pytest.approx(-0.15) and found[1]["spread"] is None
    assert found[0]["loss"] == pytest.approx(1.65)
    lines = table_of(found).splitlines()
    assert lines[2] == "| base | 0.3500 ± 0.0707 | | 1.650 | 0.4000 | 6 |".replace("| |", "|  |")
    assert lines[3] == "| x=1 | 0.2000 | -0.1500 | 1.800 | 0.3000 | 4 |"


def test_the_script(call, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_, **__: tiny_dataset())
    sizes = [
        f"{name}={value}" for name, value in [*NARROW, ("batch_size", "32"), ("xla", "off"), ("validation", "0.3")]
    ]
    settings = [part for size in sizes for part in ("--set", size)]
    arguments = ["convnet_cifar10", "--data", "sample", "--epochs", "1", "--out", tmp_path / "study", *settings]
    table, file = tmp_path / "table.md", tmp_path / "table.json"
    changes = ["--change", "mirror=true", "crop_padding=2", "--change", "optimizer=sgd"]
    code, text, _ = call("study_recipe", *arguments, *changes, "--markdown", table, "--json", file)
    assert code == 0 and table.read_text() in text
    assert [entry["change"] for entry in json.loads(file.read_text())] == [
        "unchanged",
        "mirror=true,crop_padding=2",
        "optimizer=sgd",
    ]
    run = Run.open(tmp_path / "study" / "mirror=true,crop_padding=2" / "seed-0")
    assert run.recipe.mixing.crop_padding == 2 and "test" not in run.read_json("summary.json")
    code, again, _ = call("study_recipe", *arguments, *changes)  # all have ended: nothing is trained anew
    assert code == 0 and "starting" not in again and "mirror=true" in again


def test_refusals(call, tmp_path):
    for arguments, message in (
        (["--change", "seed=3"], "say how many by --seeds"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--change", "miror=true"], "did you mean 'mirror'?"),
    ):
        code, _, error = call("study_recipe", "inn_cifar10", "--out", tmp_path / "none", *arguments)
        assert code == 2 and message in error and not (tmp_path / "none").exists()
