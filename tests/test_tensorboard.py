"""Event files: every number of history.csv, each epoch once, whatever happened to the run."""

import json
from collections import Counter

import pytest
import tensorflow as tf

from loops import recipes
from loops.data import sample
from loops.run import checkpoint
from loops.run.runs import Run
from loops.tensorboard import EventFiles
from loops.train import train
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()
SETTINGS = [("data", "sample"), ("epochs", "3"), ("batch_size", "32"), ("xla", "off"), ("top_k", "3")]
NARROW = [("filters", "3,5,7"), ("units", "8"), ("batch_norm", "after"), ("diagnostics", "true")]


def _run(folder, *settings):
    return Run.create(folder, recipes.get("cnn_cifar10").changed([*SETTINGS, *NARROW, *settings]))


def _scalars(folder) -> dict[tuple[str, str, int], float]:
    """{(part, tag, step): value} of all event files of a run, read as a scalar page reads them; none twice."""
    found, counts = {}, Counter()
    for path in sorted(folder.glob("tensorboard/*/events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                key = (path.parent.name, value.tag, event.step)
                counts[key] += 1
                found[key] = float(tf.make_ndarray(value.tensor))
    assert not [key for key, count in counts.items() if count > 1]
    return found


def _expected(run) -> dict[tuple[str, str, int], float]:
    rows = {}
    for row in run.read_history():
        for column, value in row.items():
            if column.startswith("val_"):
                rows["validation", column[4:], row["epoch"]] = value
            elif column != "epoch":
                rows["train", column, row["epoch"]] = value
    return rows


def _assert_equal(run, epochs):
    found, expected = _scalars(run.folder), _expected(run)
    assert found.keys() == expected.keys() and {step for *_, step in found} == set(range(1, epochs + 1))
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-6), key


def test_every_number_of_the_history_is_there(tmp_path):
    run = _run(tmp_path / "run", ("precision", "mixed_float16"))
    train(run, DATASET, follow=EventFiles(run.folder / "tensorboard"))
    _assert_equal(run, epochs=3)
    tags = {(part, tag) for part, tag, _ in _scalars(run.folder)}
    both = {"loss", "accuracy", "top_3_accuracy"}
    assert {("train", tag) for tag in both} | {("validation", tag) for tag in both} <= tags
    train_only = {"learning_rate", "steps_per_second", "loss_scale", "skipped_steps"}
    train_only |= {"gradient_norm/hidden/kernel", "weight_norm/logits/kernel", "moving_rms/norms/0/moving_mean"}
    assert {("train", tag) for tag in train_only} <= tags


def test_an_epoch_is_on_the_disk_when_it_has_ended(tmp_path):
    run, seen = _run(tmp_path / "run"), []
    files = EventFiles(run.folder / "tensorboard")

    def follow(history):
        files(history)
        seen.append({step for *_, step in _scalars(run.folder)})

    train(run, DATASET, follow=follow)
    assert seen == [{1}, {1, 2}, {1, 2, 3}]


@pytest.mark.parametrize("killed_in", ["the checkpoint", "the event files"])
def test_a_resumed_run_has_each_epoch_once(tmp_path, monkeypatch, killed_in):
    class Killed(BaseException):
        pass

    run = _run(tmp_path / "run")
    save, write = checkpoint.save, EventFiles._write

    def save_or_die(path, arrays, meta):
        if meta["epoch"] == 2 and path.name != "best.npz":
            raise Killed  # history.csv has two rows, the checkpoint knows one epoch: the second is done again
        save(path, arrays, meta)

    def write_or_die(self, row):
        write(self, row)
        if row["epoch"] == 2:
            raise Killed  # written, and the process ends before anything else happens

    with monkeypatch.context() as patch:
        if killed_in == "the checkpoint":
            patch.setattr(checkpoint, "save", save_or_die)
        else:
            patch.setattr(EventFiles, "_write", write_or_die)
        with pytest.raises(Killed):
            train(run, DATASET, follow=EventFiles(run.folder / "tensorboard"))
    train(Run.open(run.folder), DATASET, resume=True, follow=EventFiles(run.folder / "tensorboard"))
    _assert_equal(run, epochs=3)
    train(Run.open(run.folder), DATASET, resume=True, follow=EventFiles(run.folder / "tensorboard"))  # nothing to do
    _assert_equal(run, epochs=3)


def test_files_asked_for_later_hold_the_past_too(tmp_path):
    run = _run(tmp_path / "run", ("epochs", "2"))
    train(run, DATASET)
    assert not (run.folder / "tensorboard").exists()
    train(run, DATASET, resume=True, follow=EventFiles(run.folder / "tensorboard"))  # no epoch is left to train
    _assert_equal(run, epochs=2)
    longer = Run(run.folder, run.recipe.changed([("epochs", "3")]))
    train(longer, DATASET, resume=True, follow=EventFiles(run.folder / "tensorboard"))
    _assert_equal(run, epochs=3)


def test_other_files_stay(tmp_path):
    folder = tmp_path / "tensorboard"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "notes.txt").write_text("mine")
    (folder / "train" / "events.out.tfevents.1.old").write_bytes(b"")
    EventFiles(folder)([{"epoch": 1, "loss": 2.5, "val_loss": 3.5}])
    assert (folder / "train" / "notes.txt").read_text() == "mine"
    assert not (folder / "train" / "events.out.tfevents.1.old").exists()
    assert _scalars(tmp_path) == {("train", "loss", 1): 2.5, ("validation", "loss", 1): 3.5}


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write .*tensorboard: .*[Nn]ot a directory"):
        EventFiles(tmp_path / "tensorboard")([{"epoch": 1, "loss": 2.5}])


def test_the_script_writes_them_on_request(call, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "images", lambda classes: DATASET)
    small = ("--data", "sample", "--batch-size", 32, "--xla", "off", "--set", "filters=3,5,7", "--set", "units=8")
    for name, options in (("with", ["--tensorboard"]), ("without", [])):
        code, _, error = call("train", "convnet_cifar10", *small, "--epochs", 1, "--out", tmp_path / name, *options)
        assert code == 0, error
    assert not (tmp_path / "without" / "tensorboard").exists()
    resumed = call("train", "convnet_cifar10", "--out", tmp_path / "with", "--resume", "--epochs", 2, "--tensorboard")
    assert resumed[0] == 0, resumed[2]
    _assert_equal(Run.open(tmp_path / "with"), epochs=2)
    assert json.loads((tmp_path / "with" / "summary.json").read_text())["epochs"] == 2
