"""Mixing of batches: its draws, its distribution, what it refuses; the loss of mixed labels; averaged weights."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from loops import recipes
from loops.learner import Learner
from loops.objective import Objective
from loops.run import checkpoint
from loops.run.restore import restored_model
from loops.run.runs import Run
from loops.train import train
from tests.support.modes import MODES
from tests.support.runs import assert_same_state, new_run, state
from tests.support.tiny import tiny_dataset
from tfcore import random
from tfcore.layers.mixing import Mixing, MixingConfig
from tfcore.ops.losses import cross_entropy_from_logits, cross_entropy_of_targets, targets_of
from tfcore.ops.mixing import beta_quantile
from tfcore.optimizers.average import update_average

KEY = random.make_key(0)
DATASET = tiny_dataset()
EVERYTHING = {"crop_padding": 2, "mirror": True, "cutout": 3, "mixup_alpha": 0.8, "cutmix_alpha": 1.0}


def _images(count=11, size=(7, 5), channels=3):
    return tf.constant(np.random.default_rng(0).random((count, *size, channels)), tf.float32)


@pytest.mark.parametrize(
    ("alpha", "cumulative"),
    [
        (0.5, lambda x: 2 / math.pi * np.arcsin(np.sqrt(x))),
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
        (0.2, None),
    ],
)
def test_weights_are_distributed_as_beta(alpha, cumulative):
    uniform = (np.arange(10_000) + 0.5) / 10_000
    found = beta_quantile(tf.constant(uniform), alpha).numpy()
    assert np.all(np.diff(found) >= 0) and found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found.mean(), 0.5, atol=1e-9)
    np.testing.assert_allclose(found.var(), 1 / (4 * (2 * alpha + 1)), rtol=1e-3)
    if cumulative is not None:
        np.testing.assert_allclose(cumulative(found), uniform, atol=1e-4)


@pytest.mark.parametrize("mode", [name for name in MODES if name != "eager"])
def test_every_mode_mixes_alike(mode):
    layer = Mixing(MixingConfig(**EVERYTHING, mix_probability=0.7))
    for found, expected in zip(MODES[mode](layer)(_images(), key=KEY), layer(_images(), key=KEY), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_happens_to_an_example_depends_on_key_and_place_alone():
    layer = Mixing(MixingConfig(crop_padding=2, mirror=True, cutout=3))
    whole, shares = layer(_images(), key=KEY)
    part, _ = layer(_images()[:4], key=KEY)
    np.testing.assert_array_equal(part, whole[:4])
    np.testing.assert_array_equal(shares, np.ones(11))
    other, _ = layer(_images(), key=random.make_key(1))
    assert np.any(other != whole)


def test_cutmix_weighs_labels_by_pixels():
    layer = Mixing(MixingConfig(cutmix_alpha=1.0))
    first, second = tf.zeros([64, 7, 5, 1]), tf.ones([64, 7, 5, 1])
    x, shares = layer(tf.concat([first, second], 0), key=KEY)
    np.testing.assert_allclose(tf.reduce_mean(x[:64], axis=(1, 2, 3)), 1 - shares[:64], atol=1e-6)
    np.testing.assert_allclose(tf.reduce_mean(x[64:], axis=(1, 2, 3)), shares[64:], atol=1e-6)
    assert set(np.unique(x)) == {0.0, 1.0} and len(np.unique(shares)) > 10


def test_the_share_of_examples_that_are_mixed():
    layer = Mixing(MixingConfig(mixup_alpha=1.0, cutmix_alpha=1.0, mix_probability=0.25))
    x = tf.reshape(tf.cast(tf.range(1024) < 512, tf.float32), [1024, 1, 1, 1]) * tf.ones([1, 5, 5, 1])
    mixed, shares = layer(x, key=KEY)
    touched = np.asarray(shares) < 1
    flat = np.ptp(mixed, axis=(1, 2, 3)) == 0
    assert 200 < touched.sum() < 310  # 256 expected; some boxes are empty
    assert 80 < (touched & flat).sum() < 180  # mixup: one weight for the whole image
    assert 60 < (touched & ~flat).sum() < 150


def test_mixing_refuses():
    for settings, message in (
        ({"crop_padding": -1}, "Mixing: crop_padding must be at least 0, such as 4, got -1"),
        ({"cutout": -3}, "cutout must be at least 0"),
        ({"mixup_alpha": -0.1}, "mixup_alpha must be at least 0"),
        ({"cutmix_alpha": math.inf}, "cutmix_alpha must be at least 0"),
        ({"mixup_alpha": 1.0, "mix_probability": 0.0}, "mix_probability must be above 0"),
        ({"mix_probability": 0.5}, "mix_probability is for mixup_alpha or cutmix_alpha"),
    ):
        with pytest.raises(ValueError, match=message):
            MixingConfig(**settings)
    with pytest.raises(ValueError, match="needs a key"):
        Mixing(MixingConfig(mirror=True))(_images(), key=None)
    with pytest.raises(ValueError, match=r"are for images \(B, H, W, C\)"):
        Mixing(MixingConfig(mirror=True))(tf.zeros([3, 7, 1]), key=KEY)


def test_targets_without_smoothing_and_mixing_are_labels():
    labels = tf.constant([2, 0, 1, 2], tf.int32)
    logits = tf.random.stateless_normal([4, 3], [0, 1]) * 30
    expected = cross_entropy_from_logits(labels, logits)
    np.testing.assert_array_equal(cross_entropy_of_targets(targets_of(labels, 3), logits), expected)
    # A class that has underflowed counts nothing where its target is 0.
    assert np.isfinite(cross_entropy_of_targets(targets_of(labels[:1], 3), tf.constant([[-np.inf, 0.0, 1.0]])))
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and below 1"):
        targets_of(labels, 3, label_smoothing=1.0)


def test_a_recipe_refuses_what_means_nothing():
    inn = recipes.get("inn_cifar10")
    for recipe, settings, message in (
        (inn, [("label_smoothing", "1")], "label_smoothing must be at least 0 and below 1"),
        (inn, [("average_decay", "1")], "average_decay must be at least 0 and below 1"),
        (inn, [("hold_test", "true")], "hold_test leaves the test split unseen, and something must validate"),
        (inn, [("mixup_alpha", "1"), ("devices", "2")], "pair the examples of a batch, which several devices divide"),
        (inn, [("mix_probability", "0.5")], "mix_probability is for mixup_alpha or cutmix_alpha"),
        (recipes.get("mlp_forda"), [("mirror", "true")], "are for images, and these are series"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe.changed(settings)
    changed = inn.changed([("mirror", "true"), ("crop_padding", "4"), ("label_smoothing", "0.1")])
    assert changed.mixing == MixingConfig(mirror=True, crop_padding=4)
    assert inn.from_json(changed.to_json()) == changed
    assert recipes.get("mlp_forda").changed([("mixup_alpha", "0.2")]).mixing.mixes


def test_the_objective_is_that_of_the_mixed_examples():
    """As written out: mix, call, weigh both labels' losses."""
    labels = tf.constant(np.random.default_rng(1).integers(0, 3, 11), tf.int32)
    weights = tf.random.stateless_normal([7 * 5 * 3, 3], [0, 1])

    def model(x, *, training, key):
        assert training and key is KEY
        return tf.reshape(x, [-1, 105]) @ weights

    mixing = Mixing(MixingConfig(mixup_alpha=0.7))
    losses, logits = Objective(mixing=mixing, label_smoothing=0.1).losses(model, _images(), labels, KEY)
    x, shares = mixing(_images(), key=KEY)
    expected = model(x, training=True, key=KEY)
    np.testing.assert_array_equal(logits, expected)
    own, partner = (cross_entropy_from_logits(labels[:: 1 - 2 * back], expected) for back in (0, 1))
    plain = shares * own + (1 - shares) * partner
    uniform = -tf.reduce_mean(tf.nn.log_softmax(expected), axis=-1)
    np.testing.assert_allclose(losses, 0.9 * plain + 0.1 * uniform, rtol=1e-5)


def test_the_average_equals_keras():
    """Five steps of SGD with `use_ema`, momentum 7/8."""
    from tests.support.build import build
    from tfcore.module import Module
    from tfcore.optimizers.optimizer import Sgd

    class Weights(Module):
        def __init__(self, value):
            super().__init__()
            self.kernel = tf.Variable(value)

    start = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    ours, average, theirs = Weights(start), Weights(start + 1), keras.Variable(start)
    sgd = build(Sgd, ours.named_trainable_variables(), learning_rate=0.25)
    twin = keras.optimizers.SGD(0.25, use_ema=True, ema_momentum=0.875)
    for step in range(5):
        gradient = tf.constant(np.random.default_rng(step + 1).standard_normal((7, 5)), tf.float32)
        sgd.apply({"kernel": gradient})
        update_average(average, ours, decay=0.875, updates=sgd.iterations)
        twin.apply([gradient], [theirs])
        np.testing.assert_allclose(average.kernel, twin._model_variables_moving_average[0], rtol=1e-5)
    before = average.kernel.numpy()
    ours.kernel.assign(start)
    update_average(average, ours, decay=0.875, updates=sgd.iterations, condition=tf.constant(False))
    np.testing.assert_array_equal(average.kernel, before)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run with everything: augmented, mixed, smoothed and averaged, of a model with batch norms."""
    settings = [("average_decay", "0.5"), ("label_smoothing", "0.1"), ("validation", "0.3"), ("hold_test", "true")]
    settings += [(name, str(value)) for name, value in EVERYTHING.items()]
    run = new_run(tmp_path_factory.mktemp("averaged") / "run", *settings, recipe="inn_cifar10")
    return run, settings, train(run, DATASET)


def test_the_average_is_what_is_evaluated_and_kept(averaged):
    run, _, summary = averaged
    _, arrays, _, _ = checkpoint.newest_intact(run.checkpoints)
    averages = {name.removeprefix("average/"): value for name, value in arrays.items() if name.startswith("average/")}
    models = {name.removeprefix("model/"): value for name, value in arrays.items() if name.startswith("model/")}
    assert averages.keys() == models.keys()
    assert all(np.any(averages[name] != models[name]) for name in ("hidden/kernel", "involutions/0/norm/moving_mean"))
    best, _ = checkpoint.load(run.best)
    for path, variable in restored_model(run).named_variables().items():
        np.testing.assert_array_equal(variable, best[f"average/{path}"])
    assert "test" not in summary


def test_the_validation_is_that_of_the_average(averaged):
    run, _, summary = averaged
    learner = Learner(run.recipe, DATASET)
    _, arrays, _, _ = checkpoint.newest_intact(run.checkpoints)
    checkpoint.restore(learner.parts, arrays, "the last")
    learner.val_metrics.reset()
    split = learner.validation_split
    learner.evaluation_step(xla=False)(tf.constant(split.inputs), tf.constant(split.labels))
    found = learner.val_metrics.result()
    np.testing.assert_allclose(found["loss"], summary["last"]["val_loss"], rtol=1e-6)
    assert found["accuracy"] == summary["last"]["val_accuracy"]


def test_interrupted_and_resumed_the_average_is_the_same(averaged, tmp_path):
    run, settings, _ = averaged
    again = new_run(tmp_path / "run", *settings, ("epochs", "2"), recipe="inn_cifar10")
    train(again, DATASET)
    again = Run(again.folder, dataclasses.replace(again.recipe, epochs=3))
    train(again, DATASET, resume=True)
    assert_same_state(state(again), state(run))
