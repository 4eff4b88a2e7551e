"""Interventions: what they change is what they say, what they cost is counted right, and nothing stays changed."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.build import build
from tfcore import random
from tfcore.inspect.audit.interventions import interventions, measure_effects
from tfcore.layers.attention import MultiHeadAttention
from tfcore.layers.patches import Patches
from tfcore.models.cnn import ConvNet
from tfcore.models.inn import Inn
from tfcore.models.metaformer import MetaFormer
from tfcore.models.perceiver import Perceiver
from tfcore.models.timeseries import TimeSeriesTransformer
from tfcore.models.vit import VisionTransformer
from tfcore.module import Module

KEY = random.make_key(5)
GENERATOR = np.random.default_rng(2)


def _vit():
    settings = {"classes": 3, "image_size": 8, "patch_size": 2, "width": 8, "blocks": 2, "heads": 2, "mlp_width": 11}
    return build(VisionTransformer, key=KEY, head_units=(13,), **settings)


def _perceiver():
    settings = {"classes": 3, "image_size": 8, "patch_size": 2, "width": 8, "latents": 5, "blocks": 1, "heads": 2}
    return build(Perceiver, key=KEY, **settings)


def _series(**settings):
    return build(TimeSeriesTransformer, key=KEY, length=11, heads=2, key_dim=3, blocks=2, head_units=7, **settings)


def _metaformer():
    settings = {"widths": (4, 6), "blocks": (1, 1), "mlp_widths": (5, 7), "kernel_sizes": (3, 3), "groups": (2, 3)}
    return build(MetaFormer, key=KEY, image_size=8, bottlenecks=(2, 2), classes=3, **settings)


def _images(count=6):
    return tf.constant(255 * GENERATOR.random((count, 8, 8, 3)), tf.float32)


def _named(model, inputs):
    return {intervention.name: intervention for intervention in interventions(model, inputs)}


def _random_weights(model):
    """Biases that are not zero, or a mistake in them would not show."""
    for variable in model.named_trainable_variables().values():
        variable.assign_add(0.1 * GENERATOR.standard_normal(variable.shape).astype(np.float32))
    return model


def test_what_each_model_has():
    names = list(_named(_vit(), _images()))
    assert names == [
        "permute the patches",
        "all attention weights uniform",
        *(f"uniform weights in blocks/{i}/attention" for i in range(2)),
        *(f"drop blocks/{i}" for i in range(2)),
        *(f"zero head {head} of blocks/{i}/attention" for i in range(2) for head in range(2)),
    ]
    names = list(_named(_perceiver(), _images()))
    assert "uniform weights in cross_attention/attention" in names and "drop blocks/0" in names
    names = list(_named(_series(), tf.ones([2, 11, 1])))
    assert names[0] == "permute the time steps" and "drop blocks/1" in names
    convnet = build(ConvNet, key=KEY, image_size=8, filters=(4, 5, 5), units=7)
    assert list(_named(convnet, _images())) == ["drop convolutions/2"]
    assert list(_named(build(Inn, key=KEY, image_size=8, units=7), _images())) == [
        "all kernels the image's mean",
        *(f"mean kernel in involutions/{i}" for i in range(3)),
        *(f"drop involutions/{i}" for i in range(3)),
    ]
    assert list(_named(_metaformer(), _images())) == [
        "all kernels the image's mean",
        *(f"mean kernel in blocks/{i}/mixer" for i in range(2)),
        *(f"drop mlps/{i}" for i in range(2)),
        *(f"drop blocks/{i}{part}" for i in range(2) for part in ("", "/mixer")),
    ]


class OneLayer(Module):
    """Attention alone; logits are the means over the queries."""

    def __init__(self, formulation, key_dim=7):
        super().__init__()
        self.attention = MultiHeadAttention(
            width=5, context_width=3, heads=2, key_dim=key_dim, formulation=formulation, key=KEY
        )

    def __call__(self, x, *, training=False, key=None):
        return tf.reduce_mean(self.attention(x, x[:, :4, :3]), axis=1)


@pytest.mark.parametrize("formulation", ["direct", "chunked", "folded"])
def test_uniform_attention_is_the_mean_of_the_values(formulation):
    model = _random_weights(OneLayer(formulation))
    x = GENERATOR.standard_normal((2, 11, 5)).astype(np.float32)
    with _named(model, tf.constant(x))["uniform weights in attention"].change():
        found = model(tf.constant(x)).numpy()
    weights = {path: variable.numpy() for path, variable in model.attention.named_variables().items()}
    mean = x[:, :4, :3].mean(axis=1)  # (B, D')
    values = np.einsum("bw,wnd->bnd", mean, weights["value/kernel"]) + weights["value/bias"]
    expected = np.einsum("bnd,ndw->bw", values, weights["output/kernel"]) + weights["output/bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(model(tf.constant(x)), expected, rtol=1e-3)


@pytest.mark.parametrize("formulation", ["direct", "folded"])
def test_uniform_attention_keeps_to_the_mask(formulation):
    layer = MultiHeadAttention(width=5, heads=2, key_dim=7, formulation=formulation, key=KEY)

    class Masked(Module):
        def __init__(self):
            super().__init__()
            self.attention = layer

        def __call__(self, x, *, training=False, key=None):
            return self.attention(x, mask=tf.linalg.band_part(tf.ones([1, 1, 3, 3], tf.bool), -1, 0))[:, 0]

    model, x = Masked(), tf.constant(GENERATOR.standard_normal((2, 3, 5)), tf.float32)
    with _named(model, x)["uniform weights in attention"].change():
        np.testing.assert_allclose(model(x), layer(x[:, :1])[:, 0], rtol=1e-5, atol=1e-6)  # one key: always uniform


def test_uniform_cross_attention_of_a_perceiver():
    model, images = _random_weights(_perceiver()), _images()
    keys, values = model.cross_attention.keys_and_values(model.tokens(images))
    query = tf.ones([len(images), 5, 8])
    with _named(model, images)["uniform weights in cross_attention/attention"].change():
        found = model.cross_attention.attention(query, keys, values).numpy()
        assert not np.array_equal(model(images), _perceiver()(images))
    np.testing.assert_allclose(found, np.repeat(values.numpy().mean(axis=1, keepdims=True), 5, axis=1), atol=1e-6)


def test_permuted_patches_and_time_steps():
    model, images = _vit(), _images()
    intervention = _named(model, images)["permute the patches"]
    cut = Patches(image_size=8, patch_size=2)(images).numpy()
    orders = []
    for _ in range(2):
        with intervention.change():
            found = model.tokens.patches(images).numpy()
        for before, after in zip(cut, found, strict=True):
            np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
        orders.append(found)
    np.testing.assert_array_equal(*orders)  # the seed's
    assert not np.array_equal(cut, orders[0])

    series = _series()
    x = tf.constant(GENERATOR.standard_normal((4, 11, 1)), tf.float32)
    plain = series(x).numpy()
    with _named(series, x)["permute the time steps"].change():
        assert not np.allclose(series(x), plain)
    same = tf.ones([4, 11, 1])
    with _named(series, x)["permute the time steps"].change():
        permuted = series(same).numpy()
    np.testing.assert_array_equal(permuted, series(same))


def test_a_mean_kernel_and_a_dropped_mixer():
    model, images = _metaformer(), _images()
    named, before = _named(model, images), model(images).numpy()
    with named["all kernels the image's mean"].change():
        found = model(images).numpy()
    assert np.abs(found - before).max() > 1e-3
    for block in model.blocks:
        block.mixer.formulation = "mean"
    np.testing.assert_array_equal(model(images), found)
    for block in model.blocks:
        block.mixer.formulation = "factored"
    np.testing.assert_array_equal(model(images), before)
    with named["drop blocks/1/mixer"].change():
        found = model(images).numpy()
    model.blocks[1].mixer = None
    np.testing.assert_array_equal(model(images), found)


def test_a_dropped_block_is_the_identity():
    model, images = _random_weights(_vit()), _images()
    with _named(model, images)["drop blocks/1"].change():
        found = model(images).numpy()
    model.blocks = model.blocks[:1]
    np.testing.assert_array_equal(found, model(images))
    inn, images = build(Inn, key=KEY, image_size=8, units=7), _images() / 255
    with _named(inn, images)["drop involutions/0"].change():
        output, kernel = inn.involutions[0](images)
    np.testing.assert_array_equal(output, images)
    assert kernel.shape == (6, 8, 8, 9, 1, 1)


@pytest.mark.parametrize("formulation", ["direct", "folded"])
def test_a_head_is_zeroed_and_comes_back(formulation):
    model = _random_weights(OneLayer(formulation))
    x = tf.constant(GENERATOR.standard_normal((2, 11, 5)), tf.float32)
    before, kernel = model(x).numpy(), model.attention.output.kernel.numpy()
    chosen = _named(model, x)
    parts = []
    for head in range(2):
        with chosen[f"zero head {head} of attention"].change():
            parts.append(model(x).numpy())
            assert not model.attention.output.kernel.numpy()[head].any()
        np.testing.assert_array_equal(model.attention.output.kernel.numpy(), kernel)
    bias = model.attention.output.bias.numpy()
    np.testing.assert_allclose(parts[0] + parts[1] - bias, before, rtol=1e-4, atol=1e-5)  # the heads add up
    with pytest.raises(KeyError), chosen["zero head 0 of attention"].change():
        raise KeyError("planned")
    np.testing.assert_array_equal(model.attention.output.kernel.numpy(), kernel)


@pytest.mark.parametrize("make", [_vit, _perceiver, _metaformer])
def test_nothing_stays_changed(make):
    model, images = _random_weights(make()), _images()
    before = {path: variable.numpy() for path, variable in model.named_variables().items()}
    plain = model(images).numpy()
    batches = [(images, tf.zeros([6], tf.int32))]
    _, effects = measure_effects(model, batches, interventions(model, images))
    assert len(effects) == len(interventions(model, images))
    for path, variable in model.named_variables().items():
        np.testing.assert_array_equal(variable.numpy(), before[path], path)
    np.testing.assert_array_equal(model(images), plain)


def test_what_an_intervention_costs():
    class Sign(Module):
        """Class 1 where the first step is positive, in two blocks of which the second turns the sign."""

        def __init__(self):
            super().__init__()
            self.turn = [Scale(1.0), Scale(-1.0)]

        def __call__(self, x, *, training=False, key=None):
            for scale in self.turn:
                x = scale(x)
            return tf.stack([x[:, 0, 0], -x[:, 0, 0]], axis=1)

    class Scale(Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = tf.Variable(factor)

        def __call__(self, x):
            return self.factor * x

    x = tf.constant([1.0, 2.0, -3.0, 4.0])[:, None, None]
    labels = tf.constant([1, 1, 0, 0])  # the last is wrong: 3 of 4
    batches = [(x[:3], labels[:3]), (x[3:], labels[3:])]
    seen, model = [], Sign()
    chosen = interventions(model, x)
    accuracy, effects = measure_effects(model, batches, chosen, progress=lambda work: seen.extend(work) or work)
    assert accuracy == 0.75 and seen == chosen
    assert [effect.name for effect in effects] == ["permute the time steps", "drop turn/0", "drop turn/1"]
    drops = {effect.name: effect for effect in effects if effect.kind == "drop"}
    assert (drops["drop turn/0"].accuracy, drops["drop turn/0"].lost, drops["drop turn/0"].changed) == (0.75, 0, 0)
    worst = drops["drop turn/1"]
    assert (worst.accuracy, worst.lost, worst.changed) == (0.25, 0.5, 1.0)
    assert worst.error == pytest.approx(np.std([1, 1, 1, -1]) / 2)
