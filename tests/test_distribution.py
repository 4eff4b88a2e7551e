"""Several devices of one process against one device: values, randomness, batch norm, resuming, and what is refused."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from loops import recipes
from loops.devices import distribution
from loops.evaluation import evaluate
from loops.learner import prepare
from loops.run import resume
from loops.run.restore import restored_model
from loops.run.runs import Run
from loops.train import train
from tests.support.divided import CASES, KEY, ten_steps
from tests.support.one_device import assert_close, one_device
from tests.support.runs import assert_same_state, new_run, state
from tests.support.tiny import tiny_dataset
from tfcore import random
from tfcore.context import Share, current_share, share_of_batch

ROOT = Path(__file__).parents[1]
DATASET = tiny_dataset()


def divide(folder: Path, *arguments: str) -> None:
    """Run tests/support/divided.py, which must come to its end."""
    command = [sys.executable, "-m", "tests.support.divided", *arguments[:1], str(folder), *arguments[1:]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """What two devices made."""
    folder = tmp_path_factory.mktemp("divided")
    divide(folder, "2", *CASES, "runs")
    return folder


@pytest.mark.parametrize("case", [case for case in CASES if case != "cnn_each"])
def test_two_devices_are_one(divided, case):
    assert_close(divided / f"{case}.npz", one_device(case))


def test_three_devices_are_one(tmp_path):
    divide(tmp_path, "3", "cnn_sync")
    assert_close(tmp_path / "cnn_sync.npz", one_device("cnn_sync"))


def test_a_run_is_resumed_to_the_same_bits_and_evaluated_on_one_device(divided):
    whole = Run.open(divided / "whole")
    assert_same_state(state(Run.open(divided / "cut")), state(whole))
    environment = whole.read_json("environment.json")
    assert (environment["replicas"], environment["workers"]) == (2, 1) and whole.recipe.devices == 2
    best = whole.read_json("summary.json")["best"]
    result = evaluate(restored_model(whole), DATASET.test, classes=10, batch_size=23)
    assert result["accuracy"] == best["val_accuracy"] and result["loss"] == pytest.approx(best["val_loss"], rel=1e-5)


class ByTurns(distribution.Devices):
    """Two replicas without TensorFlow's engine: each share in turn, from the same running statistics."""

    replicas = 2

    def __init__(self, model):
        self.model = model

    def place(self, inputs):
        return tf.constant(inputs)

    def step(self, compute, update, check, *, moved, xla):
        def step(inputs, labels, *others):
            total = len(labels)
            kept = {v.ref(): v.numpy() for v in self.model.named_variables().values() if not v.trainable}
            parts = []
            for start, size in ((0, total - total // 2), (total - total // 2, total // 2)):
                for variable, value in kept.items():
                    variable.deref().assign(value)
                with share_of_batch(Share(start, size, total)):
                    part = compute(inputs[start : start + size], labels[start : start + size], *others)
                parts.append((part, {path: variable * (size / total) for path, variable in moved.items()}))
            whole, means = tf.nest.map_structure(tf.add, *parts)
            for path, mean in means.items():
                moved[path].assign(mean)
            return update(whole)

        return step


@pytest.mark.parametrize("case", ["cnn", "cnn_each"])
def test_devices_do_what_their_shares_do_by_turns(divided, case):
    """So that batch norm, unless it is synchronized, normalizes each share by its own statistics."""
    model = CASES[case].model()
    by_turns = ten_steps(dataclasses.replace(CASES[case], model=lambda: model), ByTurns(model))
    assert_close(divided / f"{case}.npz", by_turns)


def test_batch_norm_by_itself_is_not_that_of_the_batch(divided):
    with pytest.raises(AssertionError):
        assert_close(divided / "cnn_each.npz", one_device("cnn_each"))


@pytest.mark.parametrize("xla", [False, True])
def test_bits_belong_to_the_example(xla):
    def draw(start, size):
        with share_of_batch(Share(start, size, 7)):
            bits = random.bits(KEY(), [size, 3, 5]), random.bits(KEY(), tf.stack([size, 11]))
            return *bits, random.keep_mask(KEY(), [size, 3, 5], 0.3)

    whole = random.bits(KEY(), [7, 3, 5]), random.bits(KEY(), [7, 11]), random.keep_mask(KEY(), [7, 3, 5], 0.3)
    parts = [tf.function(lambda: draw(*share), jit_compile=xla)() for share in ((0, 3), (3, 2), (5, 2))]  # noqa: B023
    for expected, *found in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(tf.concat(found, axis=0), expected)
    assert current_share() is None


def test_the_shares_cover_a_batch():
    devices = distribution.MirroredDevices.__new__(distribution.MirroredDevices)
    devices.replicas = 3
    assert [devices._range(i, 11) for i in range(3)] == [(0, 4), (4, 4), (8, 3)]
    with pytest.raises(ValueError, match="a batch of 2 cannot be divided among 3 replicas"):
        devices._range(0, 2)


def test_what_does_not_fit_is_refused_at_the_door(tmp_path, monkeypatch):
    recipe = recipes.get("cnn_cifar10").changed([("batch_size", "23"), ("devices", "2"), ("data", "sample")])
    with pytest.raises(
        ValueError, match=r"batch_size 23 leaves a batch of 1 of 70 examples, fewer than the 2 replicas"
    ):
        prepare(recipe, DATASET)
    with pytest.raises(ValueError, match="asks for 2 devices on each of 1 workers, but 1 on 1 are here"):
        train(new_run(tmp_path / "run", ("devices", "2")), DATASET)
    with pytest.raises(ValueError, match=r"sync_batch_norm .* set xla=off"):
        recipe.changed([("sync_batch_norm", "true"), ("xla", "on")])
    with pytest.raises(ValueError, match="devices must be at least 1, got 0"):
        recipe.changed([("devices", "0")])
    plain = recipes.get("inn_cifar10")
    for field in ("devices", "workers"):
        changed = dataclasses.replace(plain, **{field: 2})
        with pytest.raises(ValueError, match=rf"{field} would change from 1 to 2: .*by --allow-change {field}"):
            resume.check_changes(plain, changed, [])
        resume.check_changes(plain, changed, [field])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"] * 2)
    with pytest.raises(ValueError, match="devices is 3, but this machine has 2 GPUs"):
        distribution.start(dataclasses.replace(plain, devices=3))
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="workers is 2, but TF_CONFIG names 1"):
        distribution.start(dataclasses.replace(plain, workers=2))


WORKERS = '{"worker": ["a:1", "b:2"]}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "indices"),
        (f'{{"cluster": {WORKERS}}}', "'task'"),
        (f'{{"cluster": {WORKERS}, "task": {{"type": "ps", "index": 0}}}}', "of the type worker"),
        (f'{{"cluster": {WORKERS}, "task": {{"type": "worker", "index": 2}}}}', r"index must be 0 \.\. 1, got 2"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "a list of host:port"),
    ],
)
def test_a_tf_config_that_cannot_be_used(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=rf"(?s)TF_CONFIG cannot be used \(.*{message}.*set it as in"):
        distribution.workers()


def test_tf_config_names_the_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution.workers() == (1, 0)
    monkeypatch.setenv("TF_CONFIG", f'{{"cluster": {WORKERS}, "task": {{"type": "worker", "index": 1}}}}')
    assert distribution.workers() == (2, 1)
    with pytest.raises(ValueError, match="a worker without GPUs is one device"):
        distribution.start(dataclasses.replace(recipes.get("inn_cifar10"), devices=2, workers=2))
