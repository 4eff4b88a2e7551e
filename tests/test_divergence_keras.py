"""Whole Keras models with our weights, a step beside ours: a layer that was copied wrongly is named, no other."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.catalog.transformer_twins import KerasVit
from tests.catalog.twins import keras_cnn, pair_variables
from tests.support.build import build
from tfcore import random
from tfcore.inspect.numerics.divergence import compare
from tfcore.inspect.numerics.recording import Computation, marked, marked_keras, record
from tfcore.models.cnn import Cnn
from tfcore.models.vit import VisionTransformer
from tfcore.ops.losses import cross_entropy_from_logits
from tfcore.optimizers.optimizer import Sgd

VIT = {
    "classes": 5,
    "image_size": 6,
    "patch_size": 2,
    "width": 6,
    "blocks": 1,
    "heads": 2,
    "mlp_width": 6,
    "head_units": (7,),
}
CNN = {"image_size": 8, "filters": (5, 5), "units": 7, "batch_norm": "after"}
SGD = {"learning_rate": 0.5, "momentum": 0.99}
numbers = np.random.default_rng(0)


class Pair:
    """A model of ours in float32 and in float64, and its Keras twin: one step of SGD from velocities that are not 0."""

    def __init__(self, kind, settings: dict, pixel: float, twin):
        self.images = pixel * numbers.random((6, settings["image_size"], settings["image_size"], 3))
        self.labels = np.arange(6) % 5
        self.models = {
            dtype: build(kind, key=random.make_key(1), dtype=dtype, **settings) for dtype in (tf.float32, tf.float64)
        }
        ours = self.models[tf.float32]
        if kind is VisionTransformer:
            ours.tokens.normalization.fit(self.images.astype(np.float32))
        named = self.models[tf.float64].named_variables()
        for path, variable in ours.named_variables().items():
            if "normalization/" not in path:  # what starts as 0 or 1 hides a bias or gamma that is left out
                variable.assign_add(numbers.normal(scale=0.3, size=variable.shape))
            named[path].assign(tf.cast(variable, tf.float64))
        self.twin = twin(ours)
        self.velocities = {
            path: numbers.normal(scale=0.1, size=variable.shape).astype(np.float32)
            for path, variable in ours.named_trainable_variables().items()
        }
        self.copy()
        self.ours = record(self.computation(tf.float32))

    def copy(self) -> dict[str, tf.Variable]:
        """Give the twin our weights; return its variables by our names."""
        ours = self.models[tf.float32]
        theirs = {path: pair[1] for path, pair in pair_variables(ours, self.twin).items()}
        for path in ours.named_variables():
            norm, _, name = path.rpartition("/")
            if name.startswith("moving_"):  # not among the pairs, which are trained
                theirs[path] = getattr(self.layers[norm], name).value
        return theirs

    @functools.cached_property
    def layers(self) -> dict[str, keras.layers.Layer]:
        """The twin's layers by the names of the calls of ours that return the same."""
        return layers_of_vit(self.twin) if isinstance(self.twin, KerasVit) else layers_of_cnn(self.twin)

    def computation(self, dtype: tf.DType) -> Computation:
        """Return our step."""
        model = self.models[dtype]
        optimizer = build(Sgd, model.named_trainable_variables(), **SGD)
        for path, velocity in optimizer.velocity.items():
            velocity.assign(self.velocities[path])

        def run(mark):
            with marked(model, mark):
                logits = model(tf.constant(self.images, dtype), training=True)
            return tf.reduce_mean(cross_entropy_from_logits(tf.constant(self.labels), logits))

        variables = {path: v for path, v in model.named_variables().items() if "normalization/" not in path}
        return Computation(run, {**variables, **_velocities(optimizer.velocity)}, optimizer.apply)

    def keras_computation(self, momentum: float = SGD["momentum"]) -> Computation:
        """Return the twin's step, as it is now."""
        theirs = self.variables
        trained = {path: variable for path, variable in theirs.items() if variable.trainable}
        optimizer = keras.optimizers.SGD(SGD["learning_rate"], momentum=momentum)
        weights = [next(w for w in self.twin.weights if w.value is variable) for variable in trained.values()]
        optimizer.build(weights)
        slots = dict(zip(trained, (slot.value for slot in optimizer.momentums), strict=True))
        for path, velocity in slots.items():
            velocity.assign(self.velocities[path])

        def run(mark):
            with marked_keras(self.layers, mark):
                logits = self.twin(tf.constant(self.images, tf.float32), training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant(self.labels), logits)
            return tf.reduce_mean(losses)

        def update(gradients):
            optimizer.apply(list(gradients.values()), weights)

        return Computation(run, {**theirs, **_velocities(slots)}, update)

    def compare(self, plant=lambda pair: None, **settings):
        """Return where ours and the twin part, after a fault was planted in a fresh copy."""
        self.variables = self.copy()
        plant(self)
        return compare(self.ours, record(self.keras_computation(**settings)), self.computation(tf.float64))


def _velocities(slots: dict[str, tf.Variable]) -> dict[str, tf.Variable]:
    return {f"velocity of {path}": slot for path, slot in slots.items()}


def layers_of_vit(twin: KerasVit) -> dict[str, keras.layers.Layer]:
    layers = {"tokens": twin.tokens, "tokens/encoder/projection": twin.tokens.projection, "norm": twin.norm}
    for i, block in enumerate(twin.blocks):
        own = {"": block, "/attention_norm": block.attention_norm, "/attention": block.attention}
        own["/feed_forward_norm"] = block.norm
        layers |= {f"blocks/{i}{name}": layer for name, layer in own.items()}
        layers |= {f"gelu(blocks/{i}/feed_forward/dense/{j})": dense for j, dense in enumerate(block.dense)}
    layers |= {f"gelu(head/dense/{j})": dense for j, dense in enumerate(twin.head)}
    return layers | {"logits": twin.logits}


def layers_of_cnn(twin: keras.Model) -> dict[str, keras.layers.Layer]:
    *convolutions, hidden, logits = [
        layer for layer in twin.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    ]
    norms = [layer for layer in twin.layers if isinstance(layer, keras.layers.BatchNormalization)]
    layers = {f"convolutions/{i}": layer for i, layer in enumerate(convolutions)}
    return layers | {f"norms/{i}": layer for i, layer in enumerate(norms)} | {"hidden": hidden, "logits": logits}


@pytest.fixture(scope="module")
def vit() -> Pair:
    """A vision transformer."""

    def twin(ours):
        mean, variance = (value.numpy() for value in ours.tokens.normalization.variables)
        return KerasVit(sizes=VIT, mean=mean, variance=variance, gelu="gelu", dtype="float32")

    rates = {"dropout": 0.0, "head_dropout": 0.0, "augmentation": "none", "formulation": "direct"}
    return Pair(VisionTransformer, VIT | rates, 255.0, twin)


@pytest.fixture(scope="module")
def cnn() -> Pair:
    """A convolution network with batch norm."""

    def twin(ours):
        model = keras_cnn("float32", **CNN)
        model.layers[-1].activation = keras.activations.linear  # a softmax, whose logits are ours
        return model

    return Pair(Cnn, CNN, 1.0, twin)


def test_a_vision_transformer_that_was_copied_rightly_is_not_accused(vit):
    found = vit.compare()
    assert not found.fault, (found.forward.sentence, found.backward.sentence)
    assert found.only[1] == []
    kinds = [tensor.kind for tensor in found.tensors]
    assert {kind: kinds.count(kind) for kind in ("forward", "backward", "gradients", "after")} == {
        "forward": len(vit.layers) + 1,  # the loss
        "backward": len(vit.layers),
        "gradients": len(vit.velocities),
        "after": 2 * len(vit.velocities),
    }


def test_a_convolution_network_that_was_copied_rightly_is_not_accused(cnn):
    found = cnn.compare()
    assert not found.fault, (found.forward.sentence, found.backward.sentence)
    assert found.only[1] == []
    assert {tensor.name for tensor in found.tensors if tensor.kind == "after"} >= {"norms/0/moving_mean", "hidden/bias"}


def assert_named(found, direction: str, kind: str, name: str) -> None:
    """The fault, the twin's alone, is the first of its direction; what comes after it forward is not accused."""
    verdict = getattr(found, direction)
    assert verdict.fault and (verdict.tensor.kind, verdict.tensor.name) == (kind, name), verdict.sentence
    assert verdict.sentence.startswith("b parts from float64")
    assert not any(tensor.a.fault for tensor in found.tensors)
    forward = [tensor.name for tensor in found.tensors if tensor.kind == "forward" and tensor.b.fault]
    assert forward == ([name] if direction == "forward" else [])


def _change(path: str, change):
    """A fault: a weight of the twin is another than ours."""

    def plant(pair: Pair) -> None:
        variable = pair.variables[path]
        variable.assign(change(variable.numpy()))

    return plant


def _heads_for_key_dim(kernel: np.ndarray) -> np.ndarray:
    """(D, N, d) read as if it were (D, d, N)."""
    width, heads, head_width = kernel.shape
    return kernel.reshape(width, head_width, heads).transpose(0, 2, 1)


BLOCK = "blocks/0"
IN_WEIGHTS = {
    "transposed kernel": (f"{BLOCK}/feed_forward/dense/1/kernel", np.transpose, f"gelu({BLOCK}/feed_forward/dense/1)"),
    "dropped bias": (f"{BLOCK}/feed_forward/dense/0/bias", np.zeros_like, f"gelu({BLOCK}/feed_forward/dense/0)"),
    "dropped bias of the queries": (f"{BLOCK}/attention/query/bias", np.zeros_like, f"{BLOCK}/attention"),
    "heads for key_dim": (f"{BLOCK}/attention/value/kernel", _heads_for_key_dim, f"{BLOCK}/attention"),
}


@pytest.mark.parametrize("fault", IN_WEIGHTS)
def test_weights_that_were_copied_wrongly_are_named(vit, fault):
    path, change, layer = IN_WEIGHTS[fault]
    assert_named(vit.compare(_change(path, change)), "forward", "forward", layer)


def test_an_epsilon_is_named(vit, monkeypatch):
    monkeypatch.setattr(vit.twin.blocks[0].norm, "epsilon", 1e-3)
    assert_named(vit.compare(), "forward", "forward", f"{BLOCK}/feed_forward_norm")


def test_the_tanh_form_of_gelu_is_named(vit, monkeypatch):
    tanh = functools.partial(keras.activations.gelu, approximate=True)
    monkeypatch.setattr(vit.twin.head[0], "activation", tanh)
    assert_named(vit.compare(), "forward", "forward", "gelu(head/dense/0)")


def test_patches_cut_column_by_column_are_named(vit, monkeypatch):
    prepare = vit.twin.tokens.prepare
    monkeypatch.setattr(vit.twin.tokens, "prepare", lambda images: tf.transpose(prepare(images), [0, 2, 1, 3]))
    assert_named(vit.compare(), "forward", "forward", "tokens/encoder/projection")


def test_rows_for_columns_of_a_convolution_are_named(cnn):
    found = cnn.compare(_change("convolutions/1/kernel", lambda kernel: kernel.transpose(1, 0, 2, 3)))
    assert_named(found, "forward", "forward", "convolutions/1")


def test_the_momentum_of_a_batch_norm_is_named(cnn, monkeypatch):
    layer = cnn.layers["norms/1"]
    monkeypatch.setattr(layer, "momentum", 0.9)
    found = cnn.compare()
    assert_named(found, "backward", "after", "norms/1/moving_mean")
    accused = [tensor.name for tensor in found.tensors if tensor.b.fault]
    assert accused == ["norms/1/moving_mean", "norms/1/moving_variance"]


def test_the_momentum_of_the_optimizer_is_named_by_the_update(cnn):
    found = cnn.compare(momentum=0.9)
    assert_named(found, "backward", "after", "convolutions/0/kernel")
    accused = {(tensor.kind, tensor.name) for tensor in found.tensors if tensor.b.fault}
    updated = [*cnn.velocities, *_velocities(cnn.velocities)]
    assert accused == {("after", name) for name in updated}  # the gradients and the statistics are right


def test_a_gradient_that_is_zero_but_for_rounding_is_allowed_that_and_no_more(vit):
    """Attention's keys have a bias that adds one number to all scores of a query."""
    vit.variables, name = vit.copy(), f"{BLOCK}/attention/key/bias"
    theirs, referee = record(vit.keras_computation()), vit.computation(tf.float64)
    assert np.abs(theirs.gradients[name]).max() > 1e3 * np.abs(record(referee).gradients[name]).max()
    wrong = dataclasses.replace(theirs, gradients={**theirs.gradients, name: theirs.gradients[name] + 1e-3})
    found = compare(vit.ours, wrong, referee)
    assert_named(found, "backward", "gradients", name)
