"""loops/health/diagnostics.py: the columns of a history that tell of the inside, against numbers made another way."""

import numpy as np
import pytest
import tensorflow as tf

from loops import recipes
from loops.data.pipeline import train_batches
from loops.health.diagnostics import NEAR_ZERO, Diagnostics
from loops.run import checkpoint
from loops.run.restore import fresh_model
from loops.run.runs import Run
from loops.train import train
from tests.support.tiny import tiny_dataset
from tfcore.module import Module
from tfcore.optimizers.optimizer import make_optimizer

DATASET = tiny_dataset()
SMALL = [("data", "sample"), ("batch_size", "32"), ("xla", "off"), ("filters", "3,5,7"), ("units", "11")]
KERNELS = [f"convolutions/{i}/kernel" for i in range(3)] + ["hidden/kernel", "logits/kernel"]


def _trained(folder, *settings):
    run = Run.create(folder, recipes.get("cnn_cifar10").changed([*SMALL, *settings]))
    train(run, DATASET)
    return run, run.read_history()


def _of(history_row: dict, kind: str) -> dict[str, float]:
    return {name.removeprefix(f"{kind}/"): v for name, v in history_row.items() if name.startswith(f"{kind}/")}


def test_gradient_norms_are_means_of_an_epochs_steps_penalty_and_all(tmp_path):
    """The same steps once more, eager, the loss and its penalty written out."""
    run, history = _trained(tmp_path, ("epochs", "2"), ("l2", "0.05"))
    model = fresh_model(run.recipe, DATASET.sizes)
    variables = model.named_trainable_variables()
    optimizer = make_optimizer(variables, run.recipe.optimizer)
    for epoch, row in enumerate(history):
        norms = []
        for images, labels in train_batches(DATASET.train, 32, seed=0, epoch=epoch):
            with tf.GradientTape() as tape:
                logits = model(tf.constant(images, tf.float32) / 255, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
                loss += 0.05 * sum(tf.reduce_sum(variables[path] ** 2) for path in KERNELS[:3])
            gradients = dict(zip(variables, tape.gradient(loss, list(variables.values())), strict=True))
            norms.append([np.linalg.norm(gradients[path].numpy().ravel()) for path in KERNELS])
            optimizer.apply(gradients)
        assert len(norms) == 3 and np.std(norms, axis=0).min() > 0  # a mean, not the last step's
        expected = dict(zip(KERNELS, np.mean(norms, axis=0), strict=True))
        assert _of(row, "gradient_norm") == pytest.approx(expected, rel=1e-4)


def test_weights_and_running_statistics_are_those_of_the_epochs_end(tmp_path):
    run, history = _trained(tmp_path, ("epochs", "2"), ("batch_norm", "after"))
    assert len(history) == 2
    for row, path in zip(history, sorted(run.checkpoints.glob("step-*.npz")), strict=True):
        arrays, _ = checkpoint.load(path)
        weights = {name.removeprefix("model/"): value.astype(np.float64) for name, value in arrays.items()}
        norms = {name: np.sqrt(np.sum(weights[name] ** 2)) for name in KERNELS}
        assert _of(row, "weight_norm") == pytest.approx(norms, rel=1e-6)
        assert _of(row, "near_zero") == {name: np.mean(np.abs(weights[name]) < 0.001) for name in KERNELS}
        statistics = [f"norms/{i}/moving_{name}" for i in range(3) for name in ("mean", "variance")]
        rms = {name: np.sqrt(np.mean(weights[name] ** 2)) for name in statistics}
        assert _of(row, "moving_rms") == pytest.approx(rms, rel=1e-6)
    first, second = (_of(row, "moving_rms") for row in history)
    # From 0 and 1 towards the data's: they are the layers' own, and they move.
    assert all(second[name] > first[name] > 0 for name in statistics if name.endswith("mean"))
    assert all(second[name] < first[name] < 1 for name in statistics if name.endswith("variance"))


class _Layers(Module):
    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable([[0.0, 0.0009, -0.0009], [0.0011, -0.0011, 2.0]])
        self.bias = tf.Variable([0.0, 0.0])
        self.frozen = tf.Variable([[1.0]], trainable=False)
        self.moving_mean = tf.Variable([3.0, 4.0], trainable=False)


def test_what_is_watched():
    """Kernels alone: trained, of two axes at least. And running statistics, by their names."""
    model = _Layers()
    diagnostics = Diagnostics(model)
    diagnostics.update({"kernel": tf.constant([[3.0, 0, 0], [0, 4, 0]]), "bias": tf.constant([100.0, 100])})
    diagnostics.update({"kernel": tf.constant([[0.0, 0, 0], [0, 0, 1]]), "bias": tf.constant([100.0, 100])})
    assert NEAR_ZERO == 0.001
    assert diagnostics.result() == {
        "gradient_norm/kernel": 3.0,
        "weight_norm/kernel": pytest.approx(2.0, abs=1e-5),
        "near_zero/kernel": 0.5,
        "moving_rms/moving_mean": pytest.approx(12.5**0.5),
    }
    diagnostics.reset()
    diagnostics.update({"kernel": tf.ones([2, 3]), "bias": tf.zeros([2])})
    assert diagnostics.result()["gradient_norm/kernel"] == pytest.approx(6**0.5)
    assert set(diagnostics.named_variables()) == {"norms", "steps"}  # a checkpoint holds the model only once


def test_norms_are_of_the_gradients_without_the_loss_scale(tmp_path):
    _, exact = _trained(tmp_path / "float32", ("epochs", "1"))
    _, half = _trained(tmp_path / "float16", ("epochs", "1"), ("precision", "mixed_float16"))
    assert half[0]["skipped_steps"] == 0
    assert _of(half[0], "gradient_norm") == pytest.approx(
        _of(exact[0], "gradient_norm"), rel=0.25
    )  # the scale is 32,768


def test_without_diagnostics_no_columns_and_the_same_training(tmp_path):
    _, with_columns = _trained(tmp_path / "with", ("epochs", "1"))
    _, without = _trained(tmp_path / "without", ("epochs", "1"), ("diagnostics", "false"))
    assert not [name for name in without[0] if "/" in name]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert without[0][name] == with_columns[0][name]
