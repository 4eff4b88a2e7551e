"""Going on with a run whose recipe, machine, data or best checkpoint are not what they were."""

import dataclasses

import numpy as np
import pytest

from loops import recipes
from loops.health.debugging import debug_numerics
from loops.health.explain import explain
from loops.run import checkpoint, resume
from loops.run.runs import Run
from loops.steps import measure_modes
from loops.train import train
from tests.support.runs import new_run
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()


def test_a_precision_that_was_noted_but_never_saved_in(tmp_path):
    """Killed between the new recipe.json and the first checkpoint with a loss scale."""
    run = new_run(tmp_path / "run", ("epochs", "1"))
    train(run, DATASET)
    half = run.recipe.changed([("precision", "mixed_float16"), ("epochs", "2")])
    run.write_json("recipe.json", half.to_json())
    run = Run.open(run.folder)
    assert debug_numerics(run, DATASET).step is None
    train(run, DATASET, resume=True)
    assert [row.get("loss_scale") for row in run.read_history()] == [None, 2.0**15]


def test_a_cosines_epochs_are_no_free_change():
    old = recipes.get("transformer_forda_mended")
    new = dataclasses.replace(old, epochs=2 * old.epochs)
    with pytest.raises(ValueError, match=r"epochs would change from 100 to 200.*--allow-change epochs"):
        resume.check_changes(old, new, [])
    resume.check_changes(old, new, ["epochs"])
    constant = recipes.get("inn_cifar10")
    resume.check_changes(constant, dataclasses.replace(constant, epochs=100), [])


def test_data_may_move_but_not_change(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "1"), ("data", "/somewhere"))
    train(run, DATASET)
    moved = run.recipe.changed([("data", "/elsewhere"), ("epochs", "2")])
    resume.check_changes(run.recipe, moved, [])
    with pytest.raises(ValueError, match="data would change from /somewhere to sample"):
        resume.check_changes(run.recipe, run.recipe.changed([("data", "sample")]), [])
    labels = DATASET.train.labels[::-1].copy()
    other = dataclasses.replace(DATASET, train=dataclasses.replace(DATASET.train, labels=labels))
    with pytest.raises(ValueError, match="its train labels are not those"):
        train(Run(run.folder, moved), other, resume=True)
    inputs = DATASET.train.inputs.copy()
    inputs[3, 5, 7, 1] ^= 1  # one value, under the same labels
    other = dataclasses.replace(DATASET, train=dataclasses.replace(DATASET.train, inputs=inputs))
    with pytest.raises(ValueError, match=r"its train inputs are not those of .* that the run began with"):
        train(Run(run.folder, moved), other, resume=True)
    assert len(run.read_history()) == 1
    # A run of before knows its labels alone: it goes on, and knows both from then on.
    known = run.read_json("environment.json")
    run.write_json("environment.json", {name: value for name, value in known.items() if name != "inputs_crc32"})
    train(Run(run.folder, moved), DATASET, resume=True)
    assert run.read_json("environment.json")["inputs_crc32"] == known["inputs_crc32"]
    assert Run.open(run.folder).recipe.data == "/elsewhere"
    assert run.read_json("environment.json")["changes"] == ["data /somewhere -> /elsewhere at step 3"]


def test_another_machine_is_noted(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "1"))
    train(run, DATASET)
    found = run.read_json("environment.json")
    run.write_json("environment.json", found | {"tensorflow": "2.0.0", "cpu": "Z80"})
    train(Run(run.folder, run.recipe.changed([("epochs", "2")])), DATASET, resume=True)
    environment = run.read_json("environment.json")
    assert environment["changes"] == [
        f"tensorflow 2.0.0 -> {found['tensorflow']} at step 3",
        f"cpu Z80 -> {found['cpu']} at step 3",
    ]
    assert environment["cpu"] == found["cpu"]


def test_lost_best_weights_leave_the_test_split_unseen(tmp_path):
    run, lines = new_run(tmp_path / "run", ("epochs", "1"), ("validation", "0.2")), []
    assert "test" in train(run, DATASET)
    (run.folder / "summary.json").unlink()
    run.best.write_bytes(b"PK")
    summary = train(Run.open(run.folder), DATASET, resume=True, report=lines.append)
    assert "test" not in summary and run.read_json("summary.json") == summary
    assert lines[-1].startswith("warning: the test split stays unseen, for the best epoch's weights are lost")


@pytest.mark.parametrize("setting", ["stop_patience=-1", "plateau_factor=2"])
def test_what_the_loop_would_refuse_is_refused_before_the_folder_is_made(call, tmp_path, setting):
    arguments = ("train", "inn_cifar10", "--data", "sample", "--out", tmp_path / "run")
    code, _, error = call(*arguments, "--set", "plateau_patience=3", "--set", setting)
    assert code == 2 and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_what_several_devices_compute_in_is_what_one_does():
    recipe = recipes.get("inn_cifar10").changed([("precision", "mixed_bfloat16")])
    assert explain(dataclasses.replace(recipe, devices=4)) == explain(recipe)


def test_modes_are_timed_till_the_device_is_done(monkeypatch):
    events = []
    monkeypatch.setattr("tensorflow.test.experimental.sync_devices", lambda: events.append("wait"))
    measure_modes({"a": lambda *_: events.append("step")}, (np.zeros(1), np.zeros(1)), repeats=2)
    assert events == ["step", "wait", "step", "wait", "step", "wait"]


def test_a_checkpoint_of_another_model_is_still_refused(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "1"))
    train(run, DATASET)
    path, arrays, meta, _ = checkpoint.newest_intact(run.checkpoints)
    checkpoint.save(path, {name: value for name, value in arrays.items() if "kernel" not in name}, meta)
    with pytest.raises(checkpoint.CheckpointError, match="it was written for another model"):
        train(Run(run.folder, run.recipe.changed([("epochs", "2")])), DATASET, resume=True)
