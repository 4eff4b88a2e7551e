"""The audit of variables: what is planted dead is found, with its reason; what is healthy is not accused."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.audited import KEY, Network, Relu, causes_of, checked_audit, found, make_batches
from tests.support.build import build
from tfcore import random
from tfcore.inspect.audit.audit import audit
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.layers.normalization import BatchNorm, LayerNorm
from tfcore.layers.transformer import PostNormBlock
from tfcore.models.cnn import Cnn, ConvNet
from tfcore.models.inn import Inn
from tfcore.models.perceiver import Perceiver
from tfcore.models.timeseries import TimeSeriesTransformer
from tfcore.models.vit import VisionTransformer
from tfcore.module import Module
from tfcore.ops.losses import cross_entropy_from_logits

# Healthy.

POST_NORM = {"heads": 2, "hidden": 5, "dropout": 0.1, "site": 1, "key": KEY}


class Series(Module):
    """Embedding → block → mean over time → logits: what system 4 should have been."""

    def __init__(self, block):
        super().__init__()
        self.embedding = Dense(inputs=1, units=8, key=random.fold_in(KEY, 1))
        self.blocks = [block]
        self.logits = Dense(inputs=8, units=3, key=random.fold_in(KEY, 2))

    def __call__(self, x, *, training=False, key=None):
        x = self.blocks[0](self.embedding(x), training=training, key=key)
        return self.logits(tf.reduce_mean(x, axis=1))


SMALL = {"classes": 3, "width": 8, "heads": 2}
HEALTHY = {
    "convnet": (lambda: build(ConvNet, key=KEY, classes=3, image_size=8, filters=(5, 6, 7), units=11), (8, 8, 3), 1),
    "inn": (lambda: build(Inn, key=KEY, classes=3, image_size=8, units=11), (8, 8, 3), 1),
    "cnn": (
        lambda: build(Cnn, key=KEY, classes=3, image_size=8, filters=(5, 6), units=7, batch_norm="before", dropout=0.5),
        (8, 8, 3),
        1,
    ),
    "cnn sigmoid": (lambda: build(Cnn, key=KEY, image_size=8, filters=(5,), activation="sigmoid"), (8, 8, 3), 1),
    "cnn prelu": (
        lambda: build(Cnn, key=KEY, image_size=8, filters=(5,), units=7, activation="prelu", prelu_axis="channel"),
        (8, 8, 3),
        1,
    ),
    "vit": (
        lambda: build(
            VisionTransformer, key=KEY, image_size=8, patch_size=2, blocks=2, mlp_width=11, head_units=(13,), **SMALL
        ),
        (8, 8, 3),
        255,
    ),
    "perceiver": (
        lambda: build(Perceiver, key=KEY, image_size=8, patch_size=2, latents=5, blocks=1, **SMALL),
        (8, 8, 3),
        255,
    ),
    "post-norm": (lambda: Series(PostNormBlock(width=8, key_dim=3, **POST_NORM)), (11, 1), 1),
    "folded": (lambda: Series(PostNormBlock(width=8, key_dim=9, formulation="folded", **POST_NORM)), (11, 1), 1),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_the_healthy_are_not_accused(name):
    make, shape, scale = HEALTHY[name]
    model = make()
    if hasattr(model, "tokens"):
        model.tokens.normalization.fit((255 * np.random.default_rng(0).random((20, *shape))).astype(np.uint8))
    result = checked_audit(model, make_batches(*shape, scale=scale))
    assert result.findings == [] and result.dead == 0
    assert "nothing is wrong" in result.headline()
    assert result.total == sum(int(tf.size(variable)) for variable in model.named_variables().values())


# Biases that nothing can see.


def test_biases_that_cancel_are_notes_and_not_dead():
    result = checked_audit(HEALTHY["perceiver"][0](), make_batches(8, 8, 3, scale=255))
    reasons = {note.path: note.reason for note in result.notes if note.kind == "cancelled"}
    assert set(reasons) == {"blocks/0/attention/key/bias", "cross_attention/keys/bias"}
    assert all("softmax cancels" in reason for reason in reasons.values())
    assert result.cancelled == 2 * 8 + 8 and result.dead == 0
    notes = {
        note.path
        for note in checked_audit(HEALTHY["inn"][0](), make_batches(8, 8, 3)).notes
        if note.kind == "cancelled"
    }
    assert notes == {f"involutions/{i}/reduce/bias" for i in range(3)}
    notes = {note.path for note in checked_audit(HEALTHY["cnn"][0](), make_batches(8, 8, 3)).notes}
    assert notes == {"convolutions/0/bias", "convolutions/1/bias"}
    notes = {
        note.path for note in checked_audit(HEALTHY["folded"][0](), make_batches(11, 1)).notes
    }  # no gradient at all there
    assert notes == {"blocks/0/attention/key/bias"}


def test_a_bias_before_a_batch_norm_that_is_also_used_elsewhere_is_not_cancelled():
    class Twice(Module):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = Dense(inputs=7, units=3, key=KEY), BatchNorm(channels=3)

        def __call__(self, x, *, training=False, key=None):
            y = self.dense(x)
            return self.norm(y, training=training) + y

    assert checked_audit(Twice(), make_batches(7)).notes == []


# Dead, with the reason.


@pytest.mark.parametrize("formulation", ["direct", "folded"])
@pytest.mark.parametrize("branches", ["compute", "skip"])
def test_the_published_time_series_transformer(formulation, branches):
    model = build(TimeSeriesTransformer, key=KEY, formulation=formulation, constant_branches=branches)
    generator = np.random.default_rng(0)
    batches = [(tf.constant(generator.standard_normal((2, 500, 1)), tf.float32), tf.constant([0, 1]))] * 2
    batches[1] = (batches[1][0][::-1], batches[1][1])
    result = checked_audit(model, batches)
    assert (result.total, result.dead, result.cancelled) == (93_130, 28_736, 0)
    norms = {f"blocks/{i}/{name}_norm" for i in range(4) for name in ("attention", "output")}
    causes = result.causes()
    assert set(causes) == set(result.culprits) == norms
    assert set(result.culprits.values()) == {"layer norm over 1 feature"}
    for i in range(4):
        # 7,169 of attention or 13 of the two dense layers, and the norm's own gamma.
        assert sum(finding.parameters for finding in causes[f"blocks/{i}/attention_norm"]) == 7_170
        assert sum(finding.parameters for finding in causes[f"blocks/{i}/output_norm"]) == 14
        assert {f.path.rpartition("/")[0] for f in causes[f"blocks/{i}/output_norm"]} == {
            f"blocks/{i}/{name}" for name in ("hidden", "output", "output_norm")
        }
    kernel = next(finding for finding in result.findings if finding.path == "blocks/2/attention/query/kernel")
    assert kernel.kind == ("zero" if branches == "compute" else "unreached")
    assert "blocks/2/attention_norm, a layer norm over 1 feature, which returns its beta" in kernel.reason
    bias = next(finding for finding in result.findings if finding.path == "blocks/2/attention/key/bias")
    assert bias.cause == "blocks/2/attention_norm" and "besides, it adds the same" in bias.reason
    assert ("blocks/2 skips the branch" in kernel.reason) == (branches == "skip")
    assert "28,736 of 93,130 parameters (30.9 %) receive no gradient" in result.headline()
    assert all(norm in result.headline() for norm in norms)
    constant = found(result, "constant")
    assert set(constant) == (norms if branches == "compute" else set())
    assert all("a layer norm over 1 feature returns its beta" in reason for reason in constant.values())
    assert model.blocks[0].skips == (branches == "skip")


def test_a_narrow_norm_between_layers_is_the_cause_of_what_stands_before_it():
    result = checked_audit(Network(LayerNorm(width=1), width=1), make_batches(7))
    assert causes_of(result) == dict.fromkeys(
        ("first/kernel", "first/bias", "middle/gamma", "last/kernel"), "middle"
    )  # last/kernel: what comes to it is beta, 0 at the start
    assert "with the identity in its place the gradient's norm is" in found(result, "zero")["first/kernel"]
    assert list(found(result, "constant")) == ["middle"]


def test_two_causes_in_a_row_are_only_proven_together():
    class Row(Module):
        def __init__(self):
            super().__init__()
            self.norms = [LayerNorm(width=1), LayerNorm(width=1)]

        def __call__(self, x):
            return self.norms[1](self.norms[0](x))

    result = checked_audit(Network(Row(), width=1), make_batches(7))
    assert "only with middle/norms/0 and middle/norms/1 all taken out" in found(result, "zero")["first/kernel"]


def test_a_relu_that_never_fires():
    model = Network(Relu())
    model.first.bias.assign(tf.fill([5], -50.0))
    result = checked_audit(model, make_batches(7))
    causes = causes_of(result)
    assert causes == dict.fromkeys(("first/kernel", "first/bias", "last/kernel"), "relu(first)")
    assert result.dead == 7 * 5 + 5 + 5 * 3
    assert "silent ReLU" in found(result, "zero")["first/kernel"]
    assert found(result, "dead relu") == {
        "relu(first)": "none of its 5 channels ever fires, over all examples and positions"
    }
    assert not found(result, "constant")  # one finding is enough


def test_a_few_silent_units_are_told_and_not_accused():
    model = Network(Relu())
    model.first.bias.assign([-50.0, -50.0, 1.0, 1.0, 1.0])
    result = checked_audit(model, make_batches(7))
    assert result.findings == []
    (layer,) = [layer for layer in result.layers if layer.kind == "relu"]
    assert layer.silent == pytest.approx(0.4)
    assert next(v for v in result.variables if v.path == "first/bias").zero_share == pytest.approx(0.4)
    model.first.bias.assign([-50.0] * 4 + [1.0])
    assert list(found(checked_audit(model, make_batches(7)), "dead relu")) == ["relu(first)"]


def test_a_variable_that_nothing_uses_or_that_no_path_leads_from():
    model = Network(Relu())
    model.spare = Dense(inputs=2, units=3, key=KEY)
    result = checked_audit(model, make_batches(7))
    assert found(result, "unreached") == dict.fromkeys(
        ("spare/kernel", "spare/bias"), "spare is never called in a forward pass"
    )
    assert result.dead == 9

    class Stop(Module):
        def __call__(self, x):
            return tf.stop_gradient(x)

    reasons = found(checked_audit(Network(Stop()), make_batches(7)), "unreached")
    assert set(reasons) == {"first/kernel", "first/bias"}
    assert all("no reason found" in reason for reason in reasons.values())


def test_a_kernel_of_zeros_is_named():
    model = Network(Dense(inputs=5, units=5, key=KEY))
    model.middle.kernel.assign(tf.zeros([5, 5]))
    result = checked_audit(model, make_batches(7))
    causes = causes_of(result)
    assert causes == dict.fromkeys(("first/kernel", "first/bias", "last/kernel"), "middle/kernel")
    assert result.culprits == {"middle/kernel": "kernel of zeros"}


def test_two_that_only_together_keep_the_gradient_away_are_both_named():
    class Two(Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (Dense(inputs=5, units=5, key=random.fold_in(KEY, i)) for i in (1, 2))

        def __call__(self, x):
            return self.b(self.a(x))

    model = Network(Two())
    for dense in (model.middle.a, model.middle.b):
        dense.kernel.assign(tf.zeros([5, 5]))
    model.spare = Dense(inputs=2, units=3, key=KEY)
    result = checked_audit(model, make_batches(7))
    both = ["middle/a/kernel", "middle/b/kernel"]
    assert result.causes()[" and ".join(both)][0].path.startswith("first/")
    assert result.culprits == dict.fromkeys(both, "kernel of zeros")
    assert f"because of 2 × kernel of zeros ({', '.join(both)}), 9 without a proven cause" in result.headline()
    dead, explained = result.dead, result.dead - 9
    assert result.headline().startswith(f"{dead} of ") and f"no gradient, {explained} of them because of" in (
        result.headline()
    )
    entry = next(entry for entry in result.to_json()["causes"] if entry["path"] == " and ".join(both))
    assert entry["what"] == "kernel of zeros" and "first/kernel" in entry["variables"]


def test_gradients_unlike_their_neighbours():
    def network(factor):
        class Scaled(Module):
            def __init__(self):
                super().__init__()
                self.inner = [Dense(inputs=5, units=5, key=random.fold_in(KEY, i)) for i in range(3)]

            def __call__(self, x):
                y = x
                for dense in self.inner[:2]:
                    y = dense(y)
                x = self.inner[2](x)
                return y + factor * x - tf.stop_gradient(factor * x)

        return checked_audit(Network(Scaled()), make_batches(7))

    assert network(1.0).findings == []
    assert set(found(network(1e-7), "vanishing")) == {"middle/inner/2/kernel", "middle/inner/2/bias"}
    assert {"middle/inner/2/kernel", "middle/inner/2/bias"} <= set(found(network(1e6), "exploding"))
    assert found(network(float("inf")), "exploding")["middle/inner/2/kernel"] == "its gradient holds NaN or infinity"


def test_most_gradients_vanish():
    """The published pooling over features after a layer norm over them: its mean is that of beta, whatever comes in."""
    settings = {"blocks": 2, "heads": 2, "key_dim": 3, "hidden": 5, "head_units": 7}
    result = checked_audit(
        build(TimeSeriesTransformer, key=KEY, length=11, channels=4, **settings), make_batches(11, 4, classes=2)
    )
    vanishing = found(result, "vanishing")
    assert {f"blocks/{i}/{name}/kernel" for i in range(2) for name in ("hidden", "output")} <= set(vanishing)
    assert not found(result, "exploding") and not [path for path in vanishing if not path.startswith("blocks/")]


def test_a_gradient_that_does_not_depend_on_the_examples():
    model = Network(Relu())
    model.offset = tf.Variable(tf.ones([3]), name="offset")
    call = type(model).__call__

    class Offset(Network):
        def __call__(self, x, *, training=False, key=None):
            return tf.stop_gradient(call(self, x)) * 0 + self.offset

    model.__class__ = Offset
    batches = [(inputs, tf.zeros([5], tf.int32)) for inputs, _ in make_batches(7)]
    assert list(found(checked_audit(model, batches), "constant")) == ["offset", "model"]


def test_a_post_norm_block_of_one_feature_in_a_conv_network():
    """The cause is found wherever the block stands, not in one model alone."""

    class Mixed(Module):
        def __init__(self):
            super().__init__()
            self.conv = Conv2D(channels=3, filters=1, kernel_size=3, key=KEY)
            self.block = PostNormBlock(width=1, heads=2, key_dim=3, hidden=2, dropout=0.1, site=1, key=KEY)
            self.logits = Dense(inputs=16, units=3, key=KEY)

        def __call__(self, x, *, training=False, key=None):
            x = tf.reshape(self.conv(x), [-1, 16, 1])
            return self.logits(self.block(x, training=training, key=key)[:, :, 0])

    result = checked_audit(Mixed(), make_batches(4, 4, 3))
    assert set(result.culprits) == {"block/attention_norm", "block/output_norm"}
    assert "conv/kernel" not in causes_of(result)


def test_too_little_to_look_at_is_refused():
    model = Network(Relu())
    with pytest.raises(ValueError, match=r"two batches of two examples at least, got batches of: 5$"):
        audit(model, make_batches(7, count=1), cross_entropy_from_logits, key=KEY)
