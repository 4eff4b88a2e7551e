"""The scripts as a person types them: good input, bad input, interruption."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loops.data import download, sample
from tests.support.tiny import tiny_dataset

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py") if "__main__" in path.read_text())


def _script(*arguments, **settings) -> subprocess.CompletedProcess:
    """Run a script in a process of its own."""
    command = [sys.executable, str(ROOT / "scripts" / arguments[0]), *map(str, arguments[1:])]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **settings)


@pytest.fixture(autouse=True)
def _tiny_images(monkeypatch):
    tiny = tiny_dataset()
    monkeypatch.setattr(sample, "images", lambda classes: tiny)


TRAIN = ("train", "convnet_cifar10", "--data", "sample", "--batch-size", "32", "--xla", "off", "--epochs")


def _is_one_line(error: str) -> bool:
    return error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_examples_quickly(script):
    result = _script(script, "--help", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert result.returncode == 0 and "examples:" in result.stdout and "--json" in result.stdout
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "parts" in imported and not {"tensorflow", "keras", "matplotlib"} & imported  # which take seconds
    assert all(line.startswith("import time:") for line in result.stderr.splitlines())


def test_train_resume_and_evaluate(call, tmp_path):
    out = tmp_path / "run"
    code, text, error = call(*TRAIN, 2, "--out", out, "--json", tmp_path / "summary.json")
    assert code == 0 and error == ""
    assert "70 train and 23 test examples" in text and "epoch   2/2" in text and "319,178 parameters" in text
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads((out / "summary.json").read_text())

    code, text, _ = call("train", "convnet_cifar10", "--out", out, "--resume", "--epochs", 3)
    assert code == 0 and "resumed after epoch 2" in text and "epoch   3/3" in text

    code, text, _ = call("evaluate", out, "--json", tmp_path / "metrics.json")
    best = json.loads((out / "summary.json").read_text())["best"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert code == 0 and metrics["accuracy"] == pytest.approx(best["val_accuracy"])
    assert metrics["loss"] == pytest.approx(best["val_loss"], rel=1e-5)
    assert metrics["accuracy"] <= metrics["top_5_accuracy"] <= 1

    code, text, _ = call("evaluate", out, "--checkpoint", "last", "--json", tmp_path / "metrics.json")
    last = json.loads((out / "summary.json").read_text())["last"]
    assert json.loads((tmp_path / "metrics.json").read_text())["loss"] == pytest.approx(last["val_loss"], rel=1e-5)


def test_predict_names_classes_with_probabilities(call, tmp_path):
    import numpy as np
    import tensorflow as tf

    out = tmp_path / "run"
    call(*TRAIN, 1, "--out", out)
    pictures = [tmp_path / "same size.png", tmp_path / "larger.jpg"]
    image = tiny_dataset().test.inputs[0]
    pictures[0].write_bytes(tf.io.encode_png(image).numpy())
    pictures[1].write_bytes(tf.io.encode_jpeg(np.repeat(np.repeat(image, 3, 0), 5, 1)).numpy())
    code, text, _ = call("evaluate", out, "--predict", *pictures, "--top", 3, "--json", tmp_path / "p.json")
    assert code == 0 and text.count("%") == 6
    for entry, picture in zip(json.loads((tmp_path / "p.json").read_text()), pictures, strict=True):
        probabilities = list(entry["classes"].values())
        assert entry["image"] == str(picture) and len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) < 1
        assert set(entry["classes"]) <= set(tiny_dataset().class_names)
    (tmp_path / "text.png").write_text("no picture")
    for picture, message in ((tmp_path / "text.png", "no picture"), (tmp_path / "none.png", "cannot be read")):
        code, _, error = call("evaluate", out, "--predict", picture)
        assert code == 2 and _is_one_line(error) and message in error and str(picture) in error


BAD_TRAINING = {
    "unknown recipe": (["inn_cifar"], "did you mean 'inn_cifar10'?"),
    "unknown field": (["inn_cifar10", "--set", "kernel=3"], "did you mean 'kernel_size'?"),
    "no value": (["inn_cifar10", "--set", "kernel_size"], "expected FIELD=VALUE"),
    "wrong type": (["inn_cifar10", "--epochs", "two"], "epochs must be a whole number, got 'two'"),
    "even kernel": (["inn_cifar10", "--set", "kernel_size=4"], "kernel_size must be odd"),
    "groups": (["inn_cifar10", "--set", "groups=2"], "groups must be a divisor"),
    "batch too large": (["inn_cifar10", "--batch-size", "71"], "larger than the 70 examples"),
    "learning rate": (["inn_cifar10", "--set", "learning_rate=-1"], "learning_rate must be positive"),
    "filters": (["convnet_cifar10", "--set", "filters=8,8"], "three"),
    "unknown option": (["inn_cifar10", "--epoch-count", "3"], "unrecognized arguments"),
    "unwritable json": (["inn_cifar10", "--json", "/no/such/folder/x.json"], "give a file in an existing folder"),
    "resume without a run": (["inn_cifar10", "--resume"], "no run there"),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_bad_training_input_is_one_line_and_leaves_no_folder(call, tmp_path, case):
    arguments, message = BAD_TRAINING[case]
    out = tmp_path / "run"
    code, _, error = call("train", arguments[0], *TRAIN[2:], 1, "--out", out, *arguments[1:])
    assert code == 2 and _is_one_line(error) and message in error, error
    assert not out.exists()


def test_bad_data_is_one_line_and_leaves_no_folder(call, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    archive = dataclasses.replace(download.ARCHIVES["cifar10"], url="http://127.0.0.1:9/cifar-10-binary.tar.gz")
    monkeypatch.setitem(download.ARCHIVES, "cifar10", archive)
    monkeypatch.setenv("TFCORE_DATA", str(tmp_path / "cache"))
    for data, message in (
        (tmp_path / "none", str(tmp_path / "none")),
        (tmp_path / "empty", str(tmp_path / "empty")),
        ("auto", "--data sample"),  # no network
    ):
        code, _, error = call("train", "inn_cifar10", "--data", data, "--out", tmp_path / "run")
        assert code == 2 and _is_one_line(error.splitlines(keepends=True)[-1]) and message in error
        assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused_and_untouched(call, tmp_path):
    out = tmp_path / "run"
    call(*TRAIN, 1, "--out", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for arguments, message in (
        (["convnet_cifar10", "--data", "sample"], "holds a run already"),
        (["inn_cifar10", "--resume"], "holds a run of convnet_cifar10"),
        (["convnet_cifar10", "--resume", "--batch-size", "16"], "batch_size would change from 32 to 16"),
        (
            ["convnet_cifar10", "--resume", "--set", "units=3", "--allow-change", "xla"],
            "units would change from 64 to 3",
        ),
        (["convnet_cifar10", "--resume", "--allow-change", "units"], "choose from"),
        (["convnet_cifar10", "--allow-change", "xla"], "--allow-change is for --resume"),
    ):
        code, _, error = call("train", *arguments, "--out", out)
        assert code == 2 and _is_one_line(error) and message in error
        assert str(out) in error or "holds" not in message
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    code, _, error = call(*TRAIN, 1, "--out", tmp_path / "other")
    assert code == 2 and "is no empty folder" in error
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_change_asked_for_by_name(call, tmp_path):
    out = tmp_path / "run"
    call(*TRAIN, 1, "--out", out)
    changed = ("convnet_cifar10", "--out", out, "--resume", "--epochs", 2, "--batch-size", 16)
    code, _, error = call("train", *changed)
    assert code == 2 and _is_one_line(error) and error.endswith("or ask for it by --allow-change batch_size\n")
    code, text, error = call("train", *changed, "--allow-change", "batch_size")
    assert code == 0 and "epoch   2/2" in text, error
    assert json.loads((out / "recipe.json").read_text())["batch_size"] == 16
    assert json.loads((out / "environment.json").read_text())["changes"] == ["batch_size 32 -> 16 at step 3"]


def test_a_damaged_run_is_one_line(call, tmp_path):
    out = tmp_path / "run"
    call(*TRAIN, 1, "--out", out)
    best = out / "checkpoints" / "best.npz"
    best.write_bytes(best.read_bytes()[:5000])
    code, _, error = call("evaluate", out)
    assert code == 2 and _is_one_line(error) and f"{best}: damaged" in error
    (out / "history.csv").write_text("epoch,loss\n1,low\n")
    code, _, error = call("train", "convnet_cifar10", "--out", out, "--resume", "--epochs", 2)
    assert code == 2 and _is_one_line(error) and "history.csv: damaged" in error
    recipe = json.loads((out / "recipe.json").read_text())
    for text in ("{", "[]", '{"name": ["a"]}', json.dumps({**recipe, "epochs": "x"}), json.dumps({**recipe, "xla": 1})):
        (out / "recipe.json").write_text(text)
        code, _, error = call("evaluate", out)
        assert code == 2 and _is_one_line(error) and "recipe.json: damaged" in error, text


def test_debug_shows_the_traceback(tmp_path):
    result = _script("evaluate.py", tmp_path, "--debug")
    assert result.returncode == 1 and "Traceback" in result.stderr


def test_a_full_disk_ends_in_one_line(tmp_path):
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    out = tmp_path / "run"
    arguments = ("train.py", "inn_cifar10", "--data", "sample", "--xla", "off", "--epochs", 1, "--out", out)
    result = _script(*arguments, "--set", "units=500", preexec_fn=small_files_only)
    assert result.returncode == 2, result.stderr
    error = result.stderr.splitlines()[-1]
    assert error.startswith("error: cannot write ") and str(out) in error
    assert not list(out.rglob("*.partial")) and not list(out.rglob("*.npz"))


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "run"
    arguments = ["train.py", "convnet_cifar10", "--data", "sample", "--xla", "off", "--out", out]
    command = [sys.executable, ROOT / "scripts" / arguments[0], *arguments[1:], "--epochs", "100"]
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("epoch   1/"):
            break
    time.sleep(0.2)  # into the second epoch
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"python scripts/train.py convnet_cifar10 --out {out} --resume" in error
    assert "Traceback" not in error
    result = _script(*arguments, "--resume", "--epochs", 2)
    assert result.returncode == 0 and "resumed after epoch" in result.stdout, result.stderr


def test_a_reader_that_goes_away_ends_the_work_with_a_code_of_its_own(tmp_path):
    script, out = ROOT / "scripts" / "train.py", tmp_path / "run"
    command = f"{sys.executable} {script} inn_cifar10 --data sample --epochs 50 --xla off --out {out} | head -n 1"
    result = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 141, result.stderr
    assert result.stderr == "" and not (out / "summary.json").exists()


def test_compare_keras_prints_writes_and_fails_by_exit_code(call, tmp_path, monkeypatch):
    from tests.catalog import entry

    code, text, _ = call("compare_keras", "ops.relu", "--json", tmp_path / "c.json")
    assert code == 0 and "2 of 2 certificates hold" in text
    certificates = json.loads((tmp_path / "c.json").read_text())
    assert [c["dtype"] for c in certificates] == ["float32", "float64"]
    assert set(certificates[0]) == {"name", "dtype", "values", "gradients", "steps", "tolerance", "ok"}
    monkeypatch.setitem(entry.TOLERANCES, "float32", (-1.0, -1.0))
    code, text, _ = call("compare_keras", "ops.relu", "--dtype", "float32")
    assert code == 1 and "FAILED" in text
    code, _, error = call("compare_keras", "ops.sine")
    assert code == 2 and _is_one_line(error) and "'ops.sine'" in error
