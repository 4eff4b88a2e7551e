"""study_cnn.py: what it refuses, in one line and without a trace."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import study_cnn

from loops import recipes
from loops.run.runs import Run
from loops.studies import study
from loops.studies.cnn_study import rows
from parts import command_line
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()
SCRIPT = Path(__file__).parents[1] / "scripts" / "study_cnn.py"
SMALL = ["--set", "xla=off", "--set", "filters=3,5,7", "--set", "units=11"]
TINY = ["--data", "sample", "--epochs", "2", "--batch-size", "32", *SMALL]


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("trained")

    monkeypatch.setattr("loops.data.sample.images", lambda classes: DATASET)
    monkeypatch.setattr(study, "train", refuse)


def _error(capsys, *arguments) -> str:
    """The one line in which the script ends."""
    with pytest.raises(SystemExit) as stop:
        command_line.run(study_cnn.main, study_cnn.parser().parse_args([str(argument) for argument in arguments]))
    assert stop.value.code == command_line.WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


BAD = {
    "unknown row": (["--only", "drop_out"], "unknown row 'drop_out'; did you mean 'dropout'?"),
    "no seeds": (["--seeds", "0"], "--seeds must be at least 1"),
    "unknown field": (["--set", "dropuot=0.5"], "did you mean 'dropout'?"),
    "a row's own field": (["--set", "dropout=0.3"], "row dropout sets dropout=0.5 itself"),
    "the protocol's field": (["--set", "validation=0.2"], "choose by --protocol"),
    "the seed": (["--set", "seed=3"], "by --seeds"),
    "set twice": (["--set", "epochs=3"], "epochs is set twice, to 2 and 3"),
    "dropout of 1": (["--only", "base", "--set", "dropout=1"], "rate"),
    "negative penalty": (["--only", "base", "--set", "l2=-0.1"], "l2 must be at least 0"),
    "no validation metric": (
        ["--only", "base", "--set", "stop_patience=3", "--set", "monitor=accuracy"],
        "monitor must be",
    ),
    "prelu without axis": (["--only", "base", "--set", "activation=prelu"], "prelu needs a prelu_axis"),
    "negative rate": (["--only", "base", "--set", "learning_rate=-1"], "learning_rate must be positive"),
    "report and training": (["--report"], "leave out --epochs"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_no_folder(tmp_path, capsys, case):
    arguments, message = BAD[case]
    assert message in _error(capsys, *TINY, "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_report_of_nothing(tmp_path, capsys):
    assert "no run there has ended an epoch" in _error(capsys, "--report", "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_study_made_by_other_settings(tmp_path, capsys):
    out = tmp_path / "out"
    base = recipes.get("cnn_cifar10").changed(
        [
            ("data", "sample"),
            ("epochs", "2"),
            ("batch_size", "32"),
            ("xla", "off"),
            ("filters", "3,5,7"),
            ("units", "11"),
        ]
    )
    for row in ("base", "l2", "tanh"):
        run = Run.create(out / "published" / row / "seed-0", base.changed(rows.ROWS[row].settings.items()))
        run.write_history([{"epoch": 1}])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = ["--data", "sample", "--epochs", "3", "--batch-size", "32", *SMALL, "--out", out]
    line = _error(capsys, *other, "--only", "l2")
    assert (
        f"{out / 'published' / 'l2' / 'seed-0'} was made by other settings: its epochs is 2, now it would be 3" in line
    )
    # A row that has not begun would not be comparable with those that have.
    for arguments in (["--only", "l2", "--protocol", "fair"], ["--only", "prelu"]):
        line = _error(capsys, *other, *arguments)
        assert "was made by other settings than" in line and "epochs is 2 there and 3 here" in line
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    place = out / "published" / "tanh" / "seed-0"
    recipe = json.loads((place / "recipe.json").read_text())
    for field, value, message in (
        ("activation", "gelu", "its activation is gelu, by its place it must be tanh"),
        ("seed", 7, "its seed is 7, by its place it must be 0"),
        ("units", 13, "units is 11 there and 13 here"),
        ("name", "convnet_cifar10", "recipe.json: damaged"),
    ):
        (place / "recipe.json").write_text(json.dumps({**recipe, field: value}))
        line = _error(capsys, "--report", "--out", out)
        assert message in line and str(place) in line
    shutil.rmtree(place)
    Run.create(place, recipes.get("convnet_cifar10"))
    assert f"{place} holds a run of convnet_cifar10, not of cnn_cifar10" in _error(capsys, "--report", "--out", out)


def test_help_answers_without_tensorflow():
    answer = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0 and answer.stderr == ""
    assert " ".join(rows.ROWS) in " ".join(answer.stdout.split())
