"""Going on with a run: from nothing, from what is damaged or gone, by other settings, after signals and a full disk."""

import errno
import os
import signal

import numpy as np
import pytest

import loops.learner
from loops import control, recipes
from loops.run import checkpoint, resume
from loops.run.runs import Run
from loops.run.signals import STOPPING
from loops.steps import make_train_step
from loops.train import Interrupted, train
from tests.support.runs import assert_same_state, new_run, state
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()
INSIDE = ("checkpoint_steps", "2")  # of three steps an epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    run = new_run(tmp_path_factory.mktemp("resume") / "whole", INSIDE)
    train(run, DATASET)
    return run


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


def _stop_after(monkeypatch, steps, stop):
    """Call stop() after so many train steps, once."""
    count = []

    def stopping(*arguments, **options):
        step = make_train_step(*arguments, **options)

        def step_and_stop(*batch):
            sound = step(*batch)
            count.append(1)
            if len(count) == steps:
                stop()
            return sound

        return step_and_stop

    monkeypatch.setattr(loops.learner, "make_train_step", stopping)


def _kill():
    raise Killed


def test_without_a_checkpoint_it_starts_at_step_0(tmp_path, whole):
    run, lines = new_run(tmp_path / "run", INSIDE), []
    train(Run.open(run.folder), DATASET, resume=True, report=lines.append)
    assert lines[0] == "no checkpoint yet: starting at step 0"
    assert_same_state(state(run), state(whole))


def test_checkpoints_inside_an_epoch(tmp_path, monkeypatch, whole):
    run, lines = new_run(tmp_path / "run", INSIDE), []
    with monkeypatch.context() as patch, pytest.raises(Killed):
        _stop_after(patch, 5, _kill)
        train(run, DATASET)
    assert sorted(path.name for path in run.checkpoints.glob("step-*")) == ["step-000000003.npz", "step-000000004.npz"]
    train(Run.open(run.folder), DATASET, resume=True, report=lines.append)
    assert lines[0] == "resumed after epoch 1, step 4 (step-000000004.npz)"
    assert_same_state(state(run), state(whole))


def test_of_an_older_version(tmp_path, monkeypatch, whole):
    """Whose checkpoints know neither the examples of the open epoch nor where its seconds went."""
    run = new_run(tmp_path / "run", INSIDE)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        _stop_after(patch, 5, _kill)
        train(run, DATASET)
    for step, seconds in ((3, 0.0), (4, 1.5)):
        path = checkpoint.step_path(run.checkpoints, step)
        arrays, meta = checkpoint.load(path)
        meta = {name: meta[name] for name in ("epoch", "step", "controls")} | {"seconds": seconds}
        checkpoint.save(path, arrays, meta)
    run.write_history([{"epoch": 1, **{k: v for k, v in run.read_history()[0].items() if "data" not in k}}])
    train(Run.open(run.folder), DATASET, resume=True)
    assert_same_state(state(run), state(whole))
    assert ["data_seconds" in row for row in run.read_history()] == [False, True, True]


@pytest.mark.usefixtures("not_under_nohup")
@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_saves_and_is_named(tmp_path, monkeypatch, whole, number):
    run = new_run(tmp_path / "run", INSIDE)

    def ask():
        os.kill(os.getpid(), number)
        if number == signal.SIGTERM:
            os.kill(os.getpid(), number)  # once more: it must not end the process before everything is saved

    before = signal.getsignal(number)
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as stop:
        _stop_after(patch, 5, ask)
        train(run, DATASET)
    assert stop.value.signal == number and signal.getsignal(number) == before
    assert checkpoint.newest_intact(run.checkpoints)[2]["step"] == 5
    train(Run.open(run.folder), DATASET, resume=True)
    assert_same_state(state(run), state(whole))


@pytest.mark.parametrize("write", range(3, 9))
def test_a_disk_that_is_full_for_a_while(tmp_path, monkeypatch, whole, write):
    """Whichever file finds it full (3: environment.json): the run ends in one error, and goes on once there is room."""
    run = new_run(tmp_path / "run", INSIDE)  # two writes
    count = 2
    replace = os.replace

    def full(*arguments, **options):
        nonlocal count
        count += 1
        if count == write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=rf"cannot write {run.folder}.*No space left"):
            train(run, DATASET)
    assert not list(run.folder.rglob("*.partial"))
    if checkpoint.step_path(run.checkpoints, 3).exists():  # the end of the first epoch, which is the best so far
        assert run.best.exists()
    train(Run.open(run.folder), DATASET, resume=True)
    assert_same_state(state(run), state(whole))


def test_what_is_broken_does_not_push_out_what_is_intact(tmp_path, monkeypatch, whole):
    """Broken ones that were passed over: were they counted among the kept, the only good checkpoint would go."""
    run = new_run(tmp_path / "run", ("keep_checkpoints", "3"), INSIDE)
    train(run, DATASET)
    for step in (8, 9):
        path = checkpoint.step_path(run.checkpoints, step)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    fewer = Run(run.folder, run.recipe.changed([("keep_checkpoints", "2")]))
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        _stop_after(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        train(fewer, DATASET, resume=True)
    names = [path.name for path in sorted(run.checkpoints.glob("step-*"))]
    assert names == ["step-000000006.npz", "step-000000007.npz"]
    train(Run.open(run.folder), DATASET, resume=True)
    assert_same_state(state(run), state(whole))


def test_what_is_lost_is_named(tmp_path, whole):
    run, lines = new_run(tmp_path / "run", INSIDE), []
    train(run, DATASET)
    run.best.write_bytes(b"rubbish")
    train(Run.open(run.folder), DATASET, resume=True, report=lines.append)
    assert "the best epoch's weights are lost until a better one ends" in lines[0] and str(run.best) in lines[0]
    rows = run.read_history()
    run.write_history(rows[:1])
    with pytest.raises(ValueError, match=r"history.csv: holds 1 of the 3 epochs before step-000000009.npz"):
        train(Run.open(run.folder), DATASET, resume=True)
    run.write_history(rows)
    for path in run.checkpoints.glob("step-*"):
        path.write_bytes(b"rubbish")
    with pytest.raises(checkpoint.CheckpointError, match=r"step-000000009.npz: damaged.*step-000000008.npz: damaged"):
        train(Run.open(run.folder), DATASET, resume=True)
    for path in run.checkpoints.glob("step-*"):
        path.unlink()
    with pytest.raises(ValueError, match="the checkpoints of 3 epochs are gone"):
        train(Run.open(run.folder), DATASET, resume=True)
    (run.folder / "environment.json").unlink()
    with pytest.raises(ValueError, match=r"environment.json: missing or damaged"):
        train(Run.open(run.folder), DATASET)


def test_a_longer_run_forgets_its_summary_until_its_end(tmp_path, monkeypatch):
    run = new_run(tmp_path / "run", ("epochs", "1"))
    train(run, DATASET)
    longer = Run(run.folder, run.recipe.changed([("epochs", "2")]))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        _stop_after(patch, 1, _kill)
        train(longer, DATASET, resume=True)
    assert not (run.folder / "summary.json").exists() and Run.open(run.folder).recipe.epochs == 2
    assert train(Run.open(run.folder), DATASET, resume=True)["epochs"] == 2
    assert "changes" not in run.read_json("environment.json")


@pytest.mark.parametrize("mode", ["on", "off"])
def test_the_xla_mode_that_was_measured_is_kept(tmp_path, monkeypatch, mode):
    run = new_run(tmp_path / "run", ("xla", "auto"), ("epochs", "1"))
    made = []

    def recording(*arguments, **options):
        made.append(options["xla"])
        raise Killed

    seconds = {"on": 2.0, "off": 2.0, mode: 1.0}
    monkeypatch.setattr(loops.learner, "measure_modes", lambda *_: seconds)
    train(run, DATASET)
    monkeypatch.setattr(loops.learner, "measure_modes", None)  # must not be called
    monkeypatch.setattr(loops.learner, "make_train_step", recording)
    with pytest.raises(Killed):
        train(Run(run.folder, run.recipe.changed([("epochs", "2")])), DATASET, resume=True)
    assert made == [mode == "on"]


def test_changes_are_refused_unless_asked_for():
    recipe = recipes.get("inn_cifar10").changed([("epochs", "3"), ("batch_size", "32")])
    resume.check_changes(recipe, recipe.changed([("epochs", "4"), INSIDE, ("keep_checkpoints", "9")]), [])
    for field, value in (("batch_size", "16"), ("precision", "mixed_float16"), ("xla", "on")):
        changed = recipe.changed([(field, value)])
        message = rf"{field} would change from .* to {value}: .*or ask for it by --allow-change {field}"
        for allowed in ([], ["seed"]):
            with pytest.raises(ValueError, match=message):
                resume.check_changes(recipe, changed, allowed)
        resume.check_changes(recipe, changed, [field])
    with pytest.raises(ValueError, match=r"seed would change from 0 to 1: .*by --out$"):
        resume.check_changes(recipe, recipe.changed([("seed", "1")]), ["seed"])


def test_another_batch_size_inside_an_epoch_shows_each_example_once(tmp_path, monkeypatch):
    run = new_run(tmp_path / "run", ("epochs", "1"), ("schedule", "cosine"))
    seen, rates = [], []

    def recording(model, optimizer, *arguments, **options):
        step = make_train_step(model, optimizer, *arguments, **options)

        def record(inputs, labels, number):
            seen.append((int(number), inputs.numpy()))
            rates.append(float(optimizer.learning_rate))
            sound = step(inputs, labels, number)
            if len(seen) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return sound

        return record

    monkeypatch.setattr(loops.learner, "make_train_step", recording)
    with pytest.raises(Interrupted):
        train(run, DATASET)
    train(Run(run.folder, run.recipe.changed([("batch_size", "9"), ("epochs", "2")])), DATASET, resume=True)
    assert [number for number, _ in seen] == list(range(14))
    assert [len(inputs) for _, inputs in seen] == [32, 9, 9, 9, 9, 2] + [9] * 7 + [7]
    pictures = [picture.tobytes() for _, inputs in seen[:6] for picture in inputs]
    assert sorted(pictures) == sorted(picture.tobytes() for picture in DATASET.train.inputs)
    # 8 steps an epoch now: the cosine goes on where 32 examples stand, at step 3, not at step 1.
    expected = [control.cosine_with_warmup(s, learning_rate=1e-3, steps=16) for s in range(3, 16)]
    assert rates[1:] == pytest.approx(expected)
    assert run.read_json("environment.json")["changes"] == [
        "epochs 1 -> 2 at step 1",  # of a cosine, whose learning rates depend on it
        "batch_size 32 -> 9 at step 1",
    ]


def test_another_precision_starts_with_a_fresh_loss_scale(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "1"))
    train(run, DATASET)
    for precision, epochs in (("mixed_float16", "2"), ("float32", "3")):
        changed = Run.open(run.folder).recipe.changed([("precision", precision), ("epochs", epochs)])
        train(Run(run.folder, changed), DATASET, resume=True)
    assert ["loss_scale" in row for row in run.read_history()] == [False, True, False]
    assert run.read_history()[1]["loss_scale"] == 2**15
    assert len(run.read_json("environment.json")["changes"]) == 2


@pytest.mark.parametrize("how", ["steps", "signal"])
def test_no_checkpoint_is_written_of_weights_that_went_wrong(tmp_path, monkeypatch, how):
    """Inside an epoch, too, where nothing has looked at the loss: two such checkpoints would push out the good ones."""
    run = new_run(tmp_path / "run", *([INSIDE] if how == "steps" else []))

    def make_poisoned_step(model, *arguments, **options):
        step, count = make_train_step(model, *arguments, **options), []

        def poisoned(*batch):
            sound = step(*batch)
            count.append(1)
            if len(count) == 4:
                model.named_variables()["logits/bias"].assign([np.nan] * 10)
                if how == "signal":
                    os.kill(os.getpid(), signal.SIGINT)
            return sound

        return poisoned

    monkeypatch.setattr(loops.learner, "make_train_step", make_poisoned_step)
    with pytest.raises(FloatingPointError, match=r"model/logits/bias holds a NaN.*step-000000004.npz is not written"):
        train(run, DATASET)
    assert checkpoint.newest_intact(run.checkpoints)[2]["step"] == 3
