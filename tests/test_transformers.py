"""The vision transformer and the Perceiver: published sizes, options, refusals, compilation. Values: the catalog."""

import numpy as np
import pytest
import tensorflow as tf

from loops import recipes
from loops.objective import Objective
from loops.steps import Metrics, make_train_step
from tests.catalog.models import WITHOUT_EFFECT
from tests.support.build import build
from tfcore import random
from tfcore.inspect.graph.attention_weights import attention_maps
from tfcore.layers.attention import Attention, MultiHeadAttention
from tfcore.layers.feedforward import Mlp
from tfcore.layers.patches import PatchEncoder, Patches
from tfcore.layers.tokens import ImageTokens
from tfcore.models.perceiver import Perceiver
from tfcore.models.vit import VisionTransformer
from tfcore.ops.positions import fourier_features
from tfcore.optimizers.config import AdamWConfig, LambConfig
from tfcore.optimizers.optimizer import Lamb

KEY = random.make_key(0)
IMAGES = tf.constant(np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3)).astype(np.uint8))
SMALL = {"image_size": 12, "patch_size": 4, "width": 8, "blocks": 2, "heads": 2, "classes": 7}
VIT = {**SMALL, "mlp_width": 12, "head_units": (11,)}
PERCEIVER = {**SMALL, "latents": 5}
ONE_BLOCK = [
    (VisionTransformer, {**VIT, "blocks": 1}),
    (Perceiver, {**PERCEIVER, "blocks": 1}),
]  # XLA takes seconds each


@pytest.mark.parametrize(("model", "count"), [(VisionTransformer, 21_759_012), (Perceiver, 9_697_637)])
def test_parameter_counts_are_the_published_ones(model, count):
    variables = build(model, key=KEY).named_trainable_variables()
    assert sum(int(np.prod(variable.shape)) for variable in variables.values()) == count


def test_recipes_are_the_published_ones():
    vit, perceiver = recipes.get("vit_cifar100"), recipes.get("perceiver_cifar100")
    assert vit.optimizer == AdamWConfig(learning_rate=1e-3, weight_decay=1e-4, decay="unscaled")
    assert (vit.epochs, vit.batch_size, vit.validation, vit.monitor) == (100, 256, 0.1, "val_accuracy")
    assert perceiver.optimizer == LambConfig(learning_rate=1e-3, weight_decay=1e-4, epsilon=1e-6)
    assert (perceiver.epochs, perceiver.batch_size, perceiver.validation) == (50, 64, 0.1)
    assert (perceiver.plateau_patience, perceiver.plateau_factor, perceiver.stop_patience) == (3, 0.2, 15)


@pytest.mark.parametrize(("kind", "sizes"), ONE_BLOCK)
@pytest.mark.parametrize(("augmentation", "dtype"), [("chain", tf.float32), ("fused", tf.bfloat16)])
def test_the_whole_train_step_compiles_with_xla(kind, sizes, augmentation, dtype):
    model = build(kind, **sizes, augmentation=augmentation, key=KEY, dtype=dtype)
    metrics = Metrics(top_k=5)
    optimizer = build(Lamb, model.named_trainable_variables(), weight_decay=1e-4)
    step = make_train_step(model, optimizer, metrics, key=KEY, objective=Objective(pixel_scale=1.0), xla=True)
    before = {path: variable.numpy() for path, variable in model.named_trainable_variables().items()}
    step(IMAGES, tf.constant([0, 3, 6]), tf.constant(0, tf.int64))
    assert np.isfinite(metrics.result()["loss"])
    still = [path for path, value in before.items() if np.array_equal(value, model.named_variables()[path])]
    # The exact gradient of the keys' bias is zero: it adds one number to all scores of a query.
    assert [path for path in still if not path.endswith(WITHOUT_EFFECT)] == []


@pytest.mark.parametrize(("kind", "sizes"), ONE_BLOCK)
def test_augmentation_and_dropout_are_equal_in_every_mode(kind, sizes):
    model = build(kind, **sizes, key=KEY, dtype=tf.float64)
    images = tf.cast(IMAGES, tf.float64)

    def run(images):
        return model(images, training=True, key=random.make_key(5))

    expected = run(images)
    assert np.any(np.abs(expected - model(images)) > 1e-3)
    for xla in (False, True):
        found = tf.function(run, jit_compile=xla)(images)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_keys_and_values_once_for_all_iterations_is_exact():
    model = build(Perceiver, **PERCEIVER, iterations=3, key=KEY)
    images = tf.cast(IMAGES, tf.float32)
    tokens = model.tokens(images)
    latents = tf.broadcast_to(model.latents[None], (3, 5, 8))
    for _ in range(3):
        keys, values = model.cross_attention.keys_and_values(tokens)  # anew, as published
        latents = model.cross_attention(latents, keys, values)
        for block in model.blocks:
            latents = block(latents)
    expected = model.head(tf.reduce_mean(latents, axis=1))
    np.testing.assert_allclose(model(images), expected, rtol=1e-6, atol=1e-6)


def test_iterations_drop_different_elements():
    model = build(Perceiver, **PERCEIVER, dropout=0.5, ffn_dropout=0.5, key=KEY)
    seen = []
    inner = model.blocks[0].attention

    class Recorder:
        def __call__(self, x, *, training, key):
            seen.append(tuple(key.numpy()))
            return inner(x, training=training, key=key)

    model.blocks[0].attention = Recorder()
    model(tf.cast(IMAGES, tf.float32), training=True, key=KEY)
    assert len(seen) == 2 and seen[0] != seen[1]


@pytest.mark.parametrize(
    "options",
    [{"head": "mean"}, {"patch_size": 1}, {"patch_size": 12}, {"augmentation": "none"}, {"formulation": "chunked"}],
)
def test_options_of_the_vision_transformer(options):
    model = build(VisionTransformer, **{**VIT, **options}, key=KEY)
    positions = (12 // model.tokens.patches.patch_size) ** 2
    assert model(tf.cast(IMAGES, tf.float32), training=True, key=KEY).shape == (3, 7)
    maps = attention_maps(model, tf.cast(IMAGES, tf.float32), MultiHeadAttention)
    assert [tuple(weights.shape) for weights in maps] == 2 * [(3, 2, positions, positions)]


COMPACT = {
    "image_size": 32,
    "stem": "convolution",
    "width": 128,
    "blocks": 4,
    "heads": 2,
    "key_dim": 64,
    "feed_forward": "linear",
    "head": "sequence",
    "head_units": (),
}


@pytest.mark.parametrize(
    ("options", "count"), [({}, 495_268), ({"feed_forward": "local"}, 500_388), ({"stochastic_depth": 0.1}, 495_268)]
)
def test_parameter_counts_of_compact_ones(options, count):
    """CCT-4/3×2 and variants; the paper counts 0.48 million with 10 classes, no biases of queries, keys and values."""
    variables = build(VisionTransformer, **COMPACT | options, key=KEY).named_trainable_variables()
    assert sum(int(np.prod(variable.shape)) for variable in variables.values()) == count


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_a_compact_one_trains_in_every_precision(dtype):
    options = {"width": 8, "stem_filters": (5,), "blocks": 2, "mlp_width": 12, "key_dim": 3, "feed_forward": "local"}
    settings = {**COMPACT, **options, "image_size": 9, "stochastic_depth": 0.5, "classes": 7}
    model = build(VisionTransformer, **settings, key=KEY, dtype=dtype)
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    x = tf.cast(IMAGES, tf.float32)
    assert model(x, training=True, key=KEY).shape == (3, 7) and model(x).dtype == dtype
    assert model.tokens.side == 3
    assert [block.feed_forward_drop.rate for block in model.blocks] == [0.25, 0.5]
    weights = tf.cast(model.pool.weights(tf.ones((3, 9, 8), dtype)), tf.float32)
    np.testing.assert_allclose(weights, np.full((3, 9), 1 / 9), rtol=1e-2)


@pytest.mark.parametrize(
    "options", [{"positions": "fourier", "bands": 3}, {"patch_size": 1}, {"iterations": 1}, {"latents": 1}]
)
def test_options_of_the_perceiver(options):
    model = build(Perceiver, **{**PERCEIVER, **options}, key=KEY)
    assert model(tf.cast(IMAGES, tf.float32), training=True, key=KEY).shape == (3, 7)
    positions = (12 // model.tokens.patches.patch_size) ** 2
    maps = attention_maps(model, tf.cast(IMAGES, tf.float32), Attention)
    assert [tuple(weights.shape) for weights in maps] == model.iterations * [(3, model.latents.shape[0], positions)]


def test_fourier_features_are_the_papers():
    features = fourier_features(5, 3, bands=2)
    assert features.shape == (15, 10)
    row, column = 3, 1
    position = (-1 + 2 * row / 4, -1 + 2 * column / 2)
    expected = []
    for p, nyquist in zip(position, (2.5, 1.5), strict=True):
        expected += [np.sin(np.pi * f * p) for f in (1, nyquist)] + [np.cos(np.pi * f * p) for f in (1, nyquist)] + [p]
    np.testing.assert_allclose(features[row * 3 + column], expected, atol=1e-12)


REFUSED = {
    "patch": (
        lambda: build(VisionTransformer, image_size=72, patch_size=7, key=KEY),
        r"\(72\), got 7; possible: 1, 2, 3, 4,",
    ),
    "patch zero": (lambda: Patches(image_size=12, patch_size=0), "got 0; possible: 1, 2, 3, 4, 6, 12"),
    "other image": (lambda: Patches(image_size=12, patch_size=4)(tf.ones((1, 8, 8, 3))), "12 pixels a side, got 8×8"),
    "heads": (lambda: build(VisionTransformer, **{**VIT, "heads": 0}, key=KEY), "heads must be at least 1, got 0"),
    "width": (lambda: build(Perceiver, **{**PERCEIVER, "width": 0}, key=KEY), "must be at least 1, got 0"),
    "blocks": (lambda: build(VisionTransformer, **{**VIT, "blocks": 0}, key=KEY), "blocks must be at least 1, got 0"),
    "latents": (lambda: build(Perceiver, **{**PERCEIVER, "latents": 0}, key=KEY), "latents must be at least 1, got 0"),
    "iterations": (
        lambda: build(Perceiver, **PERCEIVER, iterations=0, key=KEY),
        "iterations must be at least 1, got 0",
    ),
    "head": (
        lambda: build(VisionTransformer, **VIT, head="max", key=KEY),
        "head must be one of flatten, mean, sequence, got 'max'",
    ),
    "flat without units": (
        lambda: build(VisionTransformer, **{**VIT, "head_units": ()}, key=KEY),
        r"head_units must be a size for each layer, such as \(2048, 1024\), got \(\)",
    ),
    "stem": (lambda: build(VisionTransformer, **VIT, stem="pool", key=KEY), "stem must be one of patches, convolution"),
    "patches unused": (
        lambda: build(VisionTransformer, **VIT, stem="convolution", key=KEY),
        "patch_size is for stem patches, and nothing uses 4 here",
    ),
    "filters unused": (
        lambda: build(VisionTransformer, **VIT, stem_filters=(5, 7), key=KEY),
        "stem_filters is for stem convolution",
    ),
    "feed forward": (
        lambda: build(VisionTransformer, **VIT, feed_forward="gated", key=KEY),
        "feed_forward must be one of activated, linear, local, got 'gated'",
    ),
    "depth": (
        lambda: build(VisionTransformer, **VIT, stochastic_depth=1.0, key=KEY),
        "stochastic_depth must be at least 0 and below 1",
    ),
    "key width": (lambda: build(VisionTransformer, **VIT, key_dim=0, key=KEY), "key_dim must be at least 1, got 0"),
    "augmentation": (
        lambda: build(VisionTransformer, **VIT, augmentation="all", key=KEY),
        "chain, fused, none, got 'all'",
    ),
    "no units": (lambda: Mlp(inputs=3, units=(), dropout=0.0, site=0, key=KEY), "at least one size"),
    "positions": (
        lambda: PatchEncoder(side=2, patch_width=3, width=5, positions="rotary", key=KEY),
        "learned, fourier, got 'rotary'",
    ),
    "bands": (
        lambda: build(Perceiver, **PERCEIVER, positions="fourier", bands=0, key=KEY),
        "bands must be at least 1, got 0",
    ),
    "dropout": (lambda: build(VisionTransformer, **VIT, dropout=1.0, key=KEY), "below 1, got 1.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_settings_are_refused_with_the_value(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build()


def test_tokens_resize_in_training_without_augmentation():
    tokens = ImageTokens(image_size=12, patch_size=4, width=8, augmentation="none", rotation_factor=0.0, key=KEY)
    images = tf.cast(IMAGES, tf.float32)
    np.testing.assert_array_equal(tokens(images, training=True), tokens(images))
