"""Several steps in one call of TensorFlow: the same bits as one by one, and nothing lost on the way."""

import signal

import numpy as np
import pytest
import tensorflow as tf

import loops.train
from loops import recipes
from loops.data.pipeline import train_batches, train_places
from loops.devices.feed import Feed
from loops.run.runs import Run
from loops.steps import repeated
from loops.train import Interrupted, train
from tests.support.runs import assert_same_state, new_run, state
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset(train=101)
SMALL = [("epochs", "2"), ("batch_size", "11")]  # nine steps an epoch, and one of two examples
CNN = [("filters", "3,5,7"), ("units", "11"), ("batch_norm", "after"), ("dropout", "0.5")]


def _trained(folder, *settings, recipe="convnet_cifar10"):
    run = new_run(folder, *SMALL, *settings, recipe=recipe)
    train(run, DATASET)
    return run


def test_places_are_those_of_the_batches():
    expected = [tuple(labels) for _, labels in train_batches(DATASET.train, 11, seed=3, epoch=5)]
    for steps in (1, 2, 4, 9, 100):
        calls = list(train_places(101, 11, seed=3, epoch=5, steps_per_call=steps))
        assert [tuple(DATASET.train.labels[row]) for call in calls for row in call] == expected
        assert max(map(len, calls)) == min(steps, 9) and calls[-1].shape == (1, 2)


def test_calls_end_where_a_checkpoint_is_due():
    options = {"seed": 3, "epoch": 5, "steps_per_call": 4, "step": 7, "pause": 5}
    assert [len(call) for call in train_places(101, 11, **options)] == [3, 4, 1, 1, 1]
    assert [len(call) for call in train_places(101, 11, **options, start=55)] == [3, 1, 1]


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("convnet_cifar10", [("schedule", "cosine"), ("warmup_steps", "3")]),
        ("convnet_cifar10", [("xla", "on")]),
        ("cnn_cifar10", CNN),
        ("cnn_cifar10", [*CNN, ("precision", "mixed_float16"), ("xla", "on")]),
    ],
    ids=["cosine", "xla", "statistics", "float16-xla"],
)
def test_the_bits_are_those_of_single_steps(tmp_path, recipe, settings):
    expected = state(_trained(tmp_path / "one", *settings, recipe=recipe))
    found = _trained(tmp_path / "many", *settings, ("steps_per_call", "4"), recipe=recipe)
    assert_same_state(state(found), expected)


def test_a_run_is_stopped_between_calls_and_goes_on_by_others(tmp_path, monkeypatch):
    expected = state(_trained(tmp_path / "one", ("checkpoint_steps", "5")))
    places = loops.train.train_places

    def interrupting(*arguments, **options):
        for number, call in enumerate(places(*arguments, **options)):
            if number == 1:
                signal.raise_signal(signal.SIGINT)
            yield call

    run = new_run(tmp_path / "many", *SMALL, ("checkpoint_steps", "5"), ("steps_per_call", "3"))
    with monkeypatch.context() as patched:
        patched.setattr(loops.train, "train_places", interrupting)
        with pytest.raises(Interrupted):
            train(run, DATASET)
    assert sorted(path.name for path in run.checkpoints.glob("step*")) == ["step-000000005.npz"]  # after 3 + 2 steps
    resumed = Run(run.folder, run.recipe.changed([("steps_per_call", "4")]))
    train(resumed, DATASET, resume=True)
    assert_same_state(state(resumed), expected)


def test_the_step_that_went_wrong_is_named_and_nothing_after_it_is_kept(tmp_path):
    run = new_run(tmp_path / "run", *SMALL, ("steps_per_call", "4"), ("optimizer", "sgd"), ("learning_rate", "1e30"))
    with pytest.raises(FloatingPointError, match=r"^step 1 \(epoch 1\): the loss or a gradient became NaN"):
        train(run, DATASET)
    assert not list(run.checkpoints.glob("*"))


def test_the_history_counts_steps(tmp_path):
    row = _trained(tmp_path / "run", ("steps_per_call", "3")).read_history()[1]
    seconds = row["data_seconds"] + row["compute_seconds"]
    assert 10 / row["steps_per_second"] == pytest.approx(seconds, abs=0.002)  # which are rounded to milliseconds
    assert 101 / row["examples_per_second"] == pytest.approx(seconds, abs=0.002)


def test_a_step_is_traced_once_whatever_the_number_of_calls():
    traces = []

    @tf.function(autograph=False)
    def step(x, number):
        traces.append(x.shape)
        total.assign_add(tf.reduce_sum(x) * tf.cast(number, tf.float32))
        return total < 100

    total = tf.Variable(0.0)
    call = repeated(step)
    for rows in (3, 2, 5):
        verdicts = call(tf.ones([rows, 7]), tf.range(rows, dtype=tf.int64))
    assert traces == [(7,)] and total == 7 * (3 + 1 + 10)
    np.testing.assert_array_equal(verdicts, [True, True, True, True, True])
    np.testing.assert_array_equal(call(tf.ones([3, 7]), tf.range(3, dtype=tf.int64)), [True, False, False])


@pytest.mark.parametrize("resident", [True, False])
def test_what_lies_on_the_device_is_what_lies_in_the_split(resident):
    feed, places = Feed(DATASET.train, resident=resident), np.array([[97, 0, 5], [5, 31, 100]])
    inputs, labels = feed(places)
    assert (inputs.dtype, labels.dtype) == (tf.uint8, tf.int32)
    np.testing.assert_array_equal(inputs, DATASET.train.inputs[places])
    np.testing.assert_array_equal(labels, DATASET.train.labels[places])


def test_what_makes_no_sense_is_refused():
    recipe = recipes.get("convnet_cifar10")
    with pytest.raises(ValueError, match="steps_per_call must be at least 1, got 0"):
        recipe.changed([("steps_per_call", "0")])
    with pytest.raises(ValueError, match="steps_per_call is for one device, and there are several"):
        recipe.changed([("steps_per_call", "2"), ("devices", "2")])
