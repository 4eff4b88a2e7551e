"""The loop with what stands between epochs: validation share, early stopping, plateau, schedules, other recipes."""

import dataclasses

import numpy as np
import pytest

import loops.learner
from loops import control, recipes
from loops.data import sample
from loops.data.dataset import DataError, Split
from loops.data.pipeline import check, hold_out
from loops.learner import prepare, splits
from loops.run.runs import Run
from loops.steps import make_train_step
from loops.train import Interrupted, train
from tests.support.runs import assert_same_state, new_run, state
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()
VIT = [
    ("data", "sample"),
    ("epochs", "2"),
    ("batch_size", "32"),
    ("xla", "off"),
    ("image_size", "8"),
    ("patch_size", "4"),
    ("width", "8"),
    ("blocks", "1"),
    ("heads", "2"),
]


def test_a_validation_share_is_the_last_part_and_leaves_the_test_split_for_the_end(tmp_path):
    run = new_run(tmp_path / "run", ("validation", "0.3"), ("epochs", "2"))
    dark = Split(np.zeros_like(DATASET.test.inputs), np.full_like(DATASET.test.labels, 3))
    summary = train(run, dataclasses.replace(DATASET, test=dark))
    other = new_run(tmp_path / "other", ("validation", "0.3"), ("epochs", "2"))
    again = train(other, DATASET)
    assert summary["last"]["val_loss"] == again["last"]["val_loss"]  # whatever the test split is
    assert summary["test"]["accuracy"] in (0.0, 1.0) and summary["test"] != again["test"]
    left, right = hold_out(DATASET.train, 0.3)
    np.testing.assert_array_equal(np.concatenate([left.labels, right.labels]), DATASET.train.labels)
    assert len(right) == 21


def test_train_examples_takes_the_first():
    recipe = dataclasses.replace(recipes.get("inn_cifar10"), validation=0.1, train_examples=50)
    left, right = splits(recipe, DATASET)
    assert (len(left), len(right)) == (45, 5)
    np.testing.assert_array_equal(right.labels, DATASET.train.labels[45:50])
    with pytest.raises(DataError, match="train_examples is 71, but there are 70"):
        splits(dataclasses.replace(recipe, train_examples=71), DATASET)
    with pytest.raises(DataError, match=r"validation 0.999 of 70 examples leaves one side empty"):
        hold_out(DATASET.train, 0.999)


def test_the_share_is_rounded_as_keras_does():
    # FordA: 3,601 series, validation_split 0.2 -> 2,880 and 721.
    labels = np.zeros(3601, np.int32)
    assert [len(split) for split in hold_out(Split(labels, labels), 0.2)] == [2880, 721]


def test_shuffle_split_draws_the_validation_rows_by_the_seed_alone():
    recipe = dataclasses.replace(recipes.get("inn_cifar10"), validation=0.1, shuffle_split=True)
    drawn = [splits(dataclasses.replace(recipe, seed=seed), DATASET) for seed in (0, 0, -1)]
    for left, right in drawn:
        pictures = np.concatenate([left.inputs, right.inputs]).reshape(70, -1)
        assert sorted(map(bytes, pictures)) == sorted(map(bytes, DATASET.train.inputs.reshape(70, -1)))
        index = np.flatnonzero((DATASET.train.inputs == right.inputs[0]).all(axis=(1, 2, 3)))[0]
        assert right.labels[0] == DATASET.train.labels[index]  # labels move with their pictures
    np.testing.assert_array_equal(drawn[0][1].inputs, drawn[1][1].inputs)
    assert not np.array_equal(drawn[0][1].inputs, drawn[2][1].inputs)
    assert not np.array_equal(drawn[0][1].inputs, hold_out(DATASET.train, 0.1)[1].inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda split: Split(split.inputs, np.where(np.arange(70) == 5, 10, split.labels)), "example 5 has label 10"),
        (lambda split: Split(split.inputs, np.where(np.arange(70) == 6, -1, split.labels)), "example 6 has label -1"),
        (
            lambda split: Split(np.where(np.arange(70)[:, None, None, None] == 7, np.nan, split.inputs), split.labels),
            "example 7 holds a NaN",
        ),
    ],
)
def test_poisoned_examples_are_named_before_any_step(change, message):
    split = change(DATASET.train)
    with pytest.raises(DataError, match=message):
        check(split, 10)
    with pytest.raises(DataError, match=message):
        prepare(
            recipes.get("convnet_cifar10").changed([("batch_size", "32")]), dataclasses.replace(DATASET, train=split)
        )


def test_early_stopping_stops_and_a_resumed_run_stays_stopped(tmp_path):
    settings = [("stop_patience", "1"), ("learning_rate", "1e-30"), ("epochs", "9")]  # nothing ever improves
    run = new_run(tmp_path / "run", *settings)
    summary = train(run, DATASET)
    assert summary["epochs"] == 2 and summary["best"]["epoch"] == 1
    assert train(Run.open(run.folder), DATASET, resume=True)["epochs"] == 2


def test_the_learning_rate_falls_on_a_plateau(tmp_path):
    settings = [("plateau_patience", "1"), ("plateau_factor", "0.5"), ("learning_rate", "1e-30"), ("epochs", "3")]
    run = new_run(tmp_path / "run", *settings)
    train(run, DATASET)
    rates = [row["learning_rate"] for row in run.read_history()]
    assert rates == pytest.approx([1e-30, 1e-30, 0.5e-30])


def test_the_cosine_is_followed_step_by_step(tmp_path, monkeypatch):
    seen = []

    def recording(model, optimizer, *args, **kwargs):
        step = make_train_step(model, optimizer, *args, **kwargs)

        def record(*arguments):
            seen.append(float(optimizer.learning_rate))
            return step(*arguments)

        return record

    monkeypatch.setattr(loops.learner, "make_train_step", recording)
    train(new_run(tmp_path / "run", ("schedule", "cosine"), ("warmup_steps", "2"), ("epochs", "2")), DATASET)
    expected = [control.cosine_with_warmup(s, learning_rate=1e-3, steps=6, warmup_steps=2) for s in range(6)]
    assert seen == pytest.approx(expected)


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [("vit_cifar100", [("head_units", "11")]), ("perceiver_cifar100", [("latents", "5"), ("iterations", "1")])],
)
def test_transformers_resume_to_the_same_bits_with_augmentation_and_dropout(tmp_path, monkeypatch, recipe, settings):
    whole_set = sample.images(100)
    # Two batches of 32 and seven images to validate, as many to test: each graph is traced once, which is what costs.
    dataset = dataclasses.replace(
        whole_set,
        train=Split(whole_set.train.inputs[:71], whole_set.train.labels[:71]),
        test=Split(whole_set.test.inputs[:7], whole_set.test.labels[:7]),
    )
    whole, cut = (
        Run.create(tmp_path / name, recipes.get(recipe).changed([*VIT, *settings])) for name in ("whole", "cut")
    )
    summary = train(whole, dataset)
    assert "top_5_accuracy" in summary["test"] and "val_top_5_accuracy" in summary["last"]

    def make_interrupting_step(*args, **kwargs):
        step, count = make_train_step(*args, **kwargs), []

        def interrupt_at_the_third(*arguments):
            sound = step(*arguments)
            count.append(1)
            if len(count) == 3:
                raise KeyboardInterrupt  # a second Ctrl-C: at once, with nothing saved
            return sound

        return interrupt_at_the_third

    with monkeypatch.context() as patch:
        patch.setattr(loops.learner, "make_train_step", make_interrupting_step)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            train(cut, dataset)
    train(Run.open(cut.folder), dataset, resume=True)
    assert_same_state(state(cut), state(whole))
