"""One run folder: one owner, a scheduler that ends it, and a folder that cannot be written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loops import recipes
from loops.run.runs import Run, sole_owner
from loops.studies import study
from loops.train import train
from tests.support.runs import DATASET, NARROW, SETTINGS, new_run

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "scripts" / "train.py"), "convnet_cifar10"]


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    monkeypatch.setattr("loops.data.sample.images", lambda classes: DATASET)


def _recipe(settings):
    return recipes.get("convnet_cifar10").changed(settings)


def test_sigterm_saves_and_the_folder_has_one_owner(tmp_path):
    """A real process, as a scheduler would end it; train.py and a study that come too near are refused meanwhile."""
    place = tmp_path / "study" / "plain" / "seed-0"
    settings = [*SETTINGS, *NARROW, ("epochs", "1000"), ("train_examples", "70")]
    arguments = [word for name, value in settings for word in ("--set", f"{name}={value}")]
    process = subprocess.Popen(
        [*TRAIN, *arguments, "--out", str(place)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("epoch   1/"):
            break
    busy = f"{place}: another process is at work on this run: wait for it, or stop it"
    with pytest.raises(ValueError) as refused:
        train(Run.open(place), DATASET, resume=True)
    assert str(refused.value) == busy
    with pytest.raises(ValueError) as refused:
        study.run_all(tmp_path / "study", study.plan(tmp_path / "study", {"plain": _recipe(settings)}, [0]))
    assert str(refused.value) == busy

    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in error, error
    assert error.endswith(
        "terminated; everything is saved. Go on with:\n"
        f"  python scripts/train.py convnet_cifar10 --out {place} --resume\n"
    )
    with sole_owner(place):  # the lock has gone with its owner
        pass


def test_the_lock_holds_against_this_process_and_is_let_go(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "1"))
    with sole_owner(run.folder):
        files = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
        with pytest.raises(ValueError, match="another process is at work on this run"):
            train(run, DATASET)
        with (
            pytest.raises(ValueError, match="another process is at work on this study"),
            sole_owner(run.folder, "study"),
        ):
            pass
        assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == files
    with pytest.raises(ZeroDivisionError), sole_owner(run.folder):
        raise ZeroDivisionError
    train(run, DATASET)


def test_a_study_leaves_a_run_alone_that_train_py_has_just_begun(tmp_path):
    place = tmp_path / "study" / "plain" / "seed-0"
    recipe = _recipe([*SETTINGS, *NARROW, ("xla", "auto")])
    Run.create(place, recipe)

    def files():
        return {path: path.stat().st_mtime_ns for path in place.rglob("*.json")}

    before = files()
    with sole_owner(place), pytest.raises(ValueError, match="another process is at work on this run"):
        study.run_all(tmp_path / "study", study.plan(tmp_path / "study", {"plain": recipe}, [0]))
    assert files() == before and len(before) == 2


def test_two_that_start_one_run_at_once(tmp_path):
    """The second waits for nothing and makes nothing: the first has the folder, though there is no recipe.json yet."""
    with sole_owner(tmp_path / "run"), pytest.raises(ValueError, match="another process is at work on this run"):
        new_run(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    new_run(tmp_path / "run")


def test_a_read_only_folder_is_one_line(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "1"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    command = [*TRAIN, "--out", str(run.folder), "--resume"]
    if os.geteuid() == 0:  # whom permissions do not stop: a mount does, in a name space of its own
        mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, str(tmp_path), *command]
        if subprocess.run([*command[:6], "true"], capture_output=True).returncode:
            pytest.skip("root without the right to mount: nothing here is read-only")
    else:
        run.folder.chmod(0o555)
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    run.folder.chmod(0o755)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(f"error: cannot write into {run.folder}: ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_whose_making_was_cut_off_is_free(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / "environment.json").write_text("{}")
    (folder / "recipe.json.partial").write_text("{")
    with pytest.raises(ValueError, match="no run there yet: start it without --resume"):
        Run.open(folder)
    for name in ("thesis.txt", "checkpoints/step-000000001.npz"):
        (folder / name).touch()
        with pytest.raises(ValueError, match="is no empty folder"):
            Run.check_new(folder)
        with pytest.raises(ValueError, match=r"no run there \(no recipe.json\)"):
            Run.open(folder)
        (folder / name).unlink()
    run = new_run(folder, ("epochs", "1"))
    for name in ("history.csv.partial", "checkpoints/step-000000099.npz.partial"):
        (folder / name).write_text("cut off")
    train(run, DATASET)
    assert not list(folder.rglob("*.partial")) and json.loads((folder / "summary.json").read_text())["epochs"] == 1
