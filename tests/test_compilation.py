"""A step that XLA cannot compile is refused before the attempt, with the layer's name; `auto` leaves XLA off."""

import re

import numpy as np
import pytest
import tensorflow as tf

import loops.learner
from loops.health.compilation import refusal_of_xla
from loops.run.runs import Run
from loops.steps import Metrics, make_train_step
from loops.train import train
from tests.support.build import build
from tests.support.planted import KEY, line_of
from tests.support.runs import DATASET, new_run
from tfcore.layers.dense import Dense
from tfcore.module import Module
from tfcore.optimizers.optimizer import Adam


class Bicubic(Module):
    """A resize without a kernel in XLA."""

    def __call__(self, images):
        return tf.image.resize(images, [3, 3], method="bicubic")  # bicubic


class Small(Module):
    """Logits of images that were made small."""

    def __init__(self, *resizes):
        super().__init__()
        self.resizes = list(resizes)
        self.logits = Dense(inputs=27, units=10, key=KEY)

    def __call__(self, images, *, training=False, key=None):
        for resize in self.resizes:
            images = resize(images)
        return self.logits(tf.reshape(images[:, :3, :3], [-1, 27]))


def _batch():
    images = tf.constant(np.random.default_rng(0).random((5, 7, 7, 3), np.float32))
    return images, tf.zeros([5], tf.int32), tf.constant(0, tf.int64)


@pytest.mark.parametrize("xla", [False, True])
def test_the_operation_its_layer_and_what_to_use_instead(xla):
    def step(model):
        metrics = Metrics()
        optimizer = build(Adam, model.named_trainable_variables())
        return make_train_step(model, optimizer, metrics, key=KEY, xla=xla)

    fine = step(Small())
    assert refusal_of_xla(fine, *_batch()) is None
    assert bool(fine(*_batch())) and fine.experimental_get_tracing_count() == 1
    refusal = refusal_of_xla(step(Small(Bicubic())), *_batch())
    where = re.escape(line_of(Bicubic, "# bicubic"))
    assert re.fullmatch(
        rf"XLA cannot compile ResizeBicubic \({where}, resizes/0, forward\): instead bilinear: .*resize", refusal
    )
    assert re.search(
        r"ResizeBicubic .*\(and 1 more such operations\)$", refusal_of_xla(step(Small(Bicubic(), Bicubic())), *_batch())
    )


@pytest.fixture
def bicubic(monkeypatch):
    monkeypatch.setattr(loops.learner, "fresh_model", lambda recipe, sizes: Small(Bicubic()))


def test_a_training_with_xla_is_refused(tmp_path, bicubic):
    run = new_run(tmp_path / "run", ("xla", "on"))
    with pytest.raises(
        ValueError, match=r"XLA cannot compile ResizeBicubic .*resizes/0.*; or --resume --xla off --allow-change xla"
    ) as error:
        train(run, DATASET)
    assert "\n" not in str(error.value)


def test_auto_is_then_off_and_says_so(tmp_path, bicubic):
    run, lines = new_run(tmp_path / "run", ("xla", "auto"), ("epochs", "1")), []
    train(run, DATASET, report=lines.append)
    assert lines[0].startswith("xla off: XLA cannot compile ResizeBicubic") and "\n" not in lines[0]
    environment = Run.open(run.folder).read_json("environment.json")
    assert environment["xla"] == "off" and environment["xla_measured_ms"] == {}
