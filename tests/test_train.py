"""The loop: learning, exact resume, interruption, history, traces."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

import loops.learner
from loops.data.dataset import DataError, Sizes
from loops.data.pipeline import evaluation_batches, steps_per_epoch, train_batches
from loops.run import checkpoint
from loops.run.runs import Run
from loops.steps import Metrics, make_train_step
from loops.train import Interrupted, train
from tests.support.build import build
from tests.support.runs import DATASET, assert_same_state, new_run, state
from tfcore import random
from tfcore.models.inn import Inn
from tfcore.optimizers.optimizer import Adam


def test_batches_are_a_function_of_seed_and_epoch():
    def labels(seed, epoch, start=0):
        batches = train_batches(DATASET.train, 32, seed=seed, epoch=epoch, start=start)
        return [tuple(batch) for _, batch in batches]

    assert [len(batch) for batch in labels(0, 0)] == [32, 32, 6]
    assert labels(0, 0) == labels(0, 0) and labels(0, 0, start=32) == labels(0, 0)[1:]
    assert len({str(labels(seed, epoch)) for seed in (-1, 0, 1) for epoch in (0, 1)}) == 6
    chosen = np.concatenate([batch for batch, _ in train_batches(DATASET.train, 32, seed=3, epoch=5)])
    np.testing.assert_array_equal(
        np.sort(chosen.reshape(70, -1), axis=0), np.sort(DATASET.train.inputs.reshape(70, -1), axis=0)
    )


def test_evaluation_drops_nothing():
    assert [len(labels) for _, labels in evaluation_batches(DATASET.test, 10)] == [10, 10, 3]
    with pytest.raises(DataError, match="batch_size 71 is larger than the 70 examples"):
        steps_per_epoch(DATASET.train, 71)


@pytest.mark.parametrize("recipe", ["convnet_cifar10", "inn_cifar10"])
def test_a_run_learns_and_leaves_its_files(tmp_path, recipe):
    lines = []
    run = new_run(tmp_path / "run", ("epochs", "8"), ("learning_rate", "0.01"), recipe=recipe)
    summary = train(run, DATASET, report=lines.append)
    history = run.read_history()
    assert [row["epoch"] for row in history] == list(range(1, 9)) and len(lines) == 8
    assert history[-1]["loss"] < history[0]["loss"] - 0.05
    assert summary == run.read_json("summary.json")
    assert summary["last"] == history[-1]
    assert summary["best"]["val_accuracy"] == max(row["val_accuracy"] for row in history)
    assert sorted(os.listdir(run.checkpoints)) == ["best.npz", "step-000000021.npz", "step-000000024.npz"]
    assert {"tensorflow", "cpu", "commit", "xla", "class_names"} <= run.read_json("environment.json").keys()
    assert Run.open(run.folder).recipe == run.recipe


@pytest.mark.parametrize("monitor", ["val_loss", "loss"])
def test_the_best_checkpoint_is_the_lowest_loss_if_asked(tmp_path, monitor):
    run = new_run(tmp_path / "run", ("monitor", monitor), ("learning_rate", "0.05"))
    summary = train(run, DATASET)
    assert summary["best"][monitor] == min(row[monitor] for row in run.read_history())


def test_history_holds_the_metrics_of_the_weights(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "1"))
    train(run, DATASET)
    model = run.recipe.build_model(random.make_key(9), Sizes((32, 32, 3), 10))
    path, arrays, _, _ = checkpoint.newest_intact(run.checkpoints)
    checkpoint.restore({"model": model}, arrays, path)
    logits = model(DATASET.test.inputs.astype(np.float32) / 255).numpy()
    accuracy = np.mean(logits.argmax(-1) == DATASET.test.labels)
    shifted = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(23), DATASET.test.labels]
    (row,) = run.read_history()
    assert row["val_accuracy"] == pytest.approx(accuracy)
    assert row["val_loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_same_seed_same_bits_other_seed_other_weights(tmp_path):
    runs = [new_run(tmp_path / str(i), ("epochs", "1"), ("seed", str(seed))) for i, seed in enumerate((4, 4, 5))]
    for run in runs:
        train(run, DATASET)
    assert_same_state(state(runs[0]), state(runs[1]))
    assert state(runs[0])[4] != state(runs[2])[4]


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_interrupted_after_every_step_and_resumed_ends_with_the_same_bits(tmp_path, monkeypatch, precision):
    whole = new_run(tmp_path / "whole", ("precision", precision))
    train(whole, DATASET)

    def make_interrupting_step(*args, **kwargs):
        step = make_train_step(*args, **kwargs)

        def step_and_interrupt(*arguments):
            sound = step(*arguments)
            os.kill(os.getpid(), signal.SIGINT)
            return sound

        return step_and_interrupt

    monkeypatch.setattr(loops.learner, "make_train_step", make_interrupting_step)
    cut = new_run(tmp_path / "cut", ("precision", precision))
    for attempt in range(9):  # three epochs of three steps
        with pytest.raises(Interrupted):
            train(Run.open(cut.folder), DATASET, resume=attempt > 0)
    train(Run.open(cut.folder), DATASET, resume=True)
    assert_same_state(state(cut), state(whole))


def test_interrupted_in_the_evaluation(tmp_path, monkeypatch):
    whole, cut = new_run(tmp_path / "whole", ("epochs", "1")), new_run(tmp_path / "cut", ("epochs", "1"))
    train(whole, DATASET)

    def interrupting(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loops.learner, "make_evaluation_step", lambda *_, **__: interrupting)
        with pytest.raises(Interrupted):
            train(cut, DATASET)
    assert cut.read_history() == []
    train(Run.open(cut.folder), DATASET, resume=True)
    assert_same_state(state(cut), state(whole))


def test_resume_after_a_kill_between_history_and_checkpoint(tmp_path, monkeypatch):
    whole, cut = new_run(tmp_path / "whole"), new_run(tmp_path / "cut")
    train(whole, DATASET)
    save = checkpoint.save

    class Killed(BaseException):
        pass

    def killed_in_the_second_epoch(path, arrays, meta):
        if meta["epoch"] == 2 and path.name != "best.npz":
            raise Killed
        save(path, arrays, meta)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed_in_the_second_epoch)
        with pytest.raises(Killed):
            train(cut, DATASET)
    assert len(cut.read_history()) == 2  # a row more than the checkpoint knows
    train(Run.open(cut.folder), DATASET, resume=True)
    assert_same_state(state(cut), state(whole))


def test_resume_passes_over_a_broken_checkpoint_and_says_so(tmp_path):
    run, lines = new_run(tmp_path / "run"), []
    train(run, DATASET)
    expected = state(run)
    newest = checkpoint.step_path(run.checkpoints, 9)
    newest.write_bytes(newest.read_bytes()[:1000])
    train(run, DATASET, resume=True, report=lines.append)
    assert "step-000000009.npz: damaged" in lines[0] and "step 6" in lines[1]
    assert_same_state(state(run), expected)


def test_auto_measures_both_modes_and_leaves_no_trace_in_the_weights(tmp_path):
    chosen = new_run(tmp_path / "chosen", ("xla", "auto"), ("epochs", "1"))
    train(chosen, DATASET)
    environment = chosen.read_json("environment.json")
    assert set(environment["xla_measured_ms"]) == {"on", "off"}
    assert environment["xla"] == min(environment["xla_measured_ms"], key=environment["xla_measured_ms"].get)
    forced = new_run(tmp_path / "forced", ("xla", environment["xla"]), ("epochs", "1"))
    train(forced, DATASET)
    assert_same_state(state(chosen), state(forced))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_good(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "1"))
    train(run, DATASET)
    longer = Run(run.folder, run.recipe.changed([("epochs", "2")]))
    path, arrays, progress, _ = checkpoint.newest_intact(run.checkpoints)
    arrays["model/logits/bias"][:] = np.nan
    checkpoint.save(path, arrays, progress)
    with pytest.raises(
        FloatingPointError, match=r"step 3 \(epoch 2\): the loss or a gradient became NaN.*learning_rate"
    ):
        train(longer, DATASET, resume=True)
    assert len(run.read_history()) == 1 and np.isfinite(checkpoint.load(run.best)[0]["model/logits/bias"]).all()


def test_a_step_is_traced_once_for_each_batch_shape():
    model, metrics = build(Inn, key=random.make_key(0)), Metrics()
    step = make_train_step(model, build(Adam, model.named_trainable_variables()), metrics, key=random.make_key(0))
    images, labels = tf.constant(DATASET.train.inputs), tf.constant(DATASET.train.labels)
    for number, size in enumerate((7, 7, 5, 7, 5)):
        step(images[:size], labels[:size], tf.constant(number, tf.int64))
    assert step.experimental_get_tracing_count() == 2
    assert metrics.result().keys() == {"loss", "accuracy"} and int(metrics.examples) == 31
    with pytest.raises(RuntimeError, match="given 5, no tensor"):
        step(images[:7], labels[:7], 5)
    with pytest.raises(RuntimeError, match=r"once more than expected, for .*\(3, 32, 32, 3\)"):
        step(images[:3], labels[:3], tf.constant(5, tf.int64))
