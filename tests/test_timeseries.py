"""The time-series Transformer: published size, what never learns, what may be skipped, refusals (values: catalog)."""

import numpy as np
import pytest
import tensorflow as tf

from loops import recipes
from loops.data import SIZES
from loops.data.dataset import Sizes
from loops.run.restore import fresh_model
from loops.steps import Metrics, make_train_step
from tests.support.build import build
from tfcore import random
from tfcore.inspect.graph.attention_weights import attention_maps
from tfcore.layers.attention import MultiHeadAttention
from tfcore.layers.normalization import LayerNorm
from tfcore.layers.series import RandomShift, SeriesTokens
from tfcore.layers.transformer import PostNormBlock
from tfcore.models.timeseries import TimeSeriesTransformer, WindowTransformer
from tfcore.ops.positions import sinusoids
from tfcore.optimizers.config import AdamConfig
from tfcore.optimizers.optimizer import Adam, AdamW

KEY = random.make_key(0)
SMALL = {"length": 131, "blocks": 2, "heads": 3, "key_dim": 7, "hidden": 5, "head_units": 11}


def _batch(step: int, length: int = 131, dtype=tf.float32) -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(step)
    labels = rng.integers(0, 2, 13).astype(np.int32)
    return tf.constant(rng.standard_normal((13, length, 1)), dtype), tf.constant(labels)


def _trained(
    steps: int, *, xla: bool, optimizer=Adam, dtype=tf.float64, **options
) -> tuple[TimeSeriesTransformer, list]:
    """A small model after some steps with dropout on, and the losses on the way."""
    model = build(TimeSeriesTransformer, key=KEY, dtype=dtype, **SMALL, **options)
    metrics, losses = Metrics(), []
    decay = {"weight_decay": 0.01} if optimizer is AdamW else {}
    updates = build(optimizer, model.named_trainable_variables(), **decay)
    step = make_train_step(model, updates, metrics, key=KEY, xla=xla)
    for number in range(steps):
        metrics.reset()
        step(*_batch(number, dtype=dtype), tf.constant(number, tf.int64))
        losses.append(metrics.result()["loss"])
    return model, losses


def test_the_recipe_is_the_published_one():
    recipe = recipes.get("transformer_forda")
    model = fresh_model(recipe, SIZES["FordA"])
    assert sum(int(np.prod(variable.shape)) for variable in model.named_variables().values()) == 93_130
    per_attention = model.blocks[0].attention.named_variables().values()
    assert sum(int(np.prod(variable.shape)) for variable in per_attention) == 7_169
    assert recipe.optimizer == AdamConfig(learning_rate=1e-4)
    assert (recipe.batch_size, recipe.epochs) == (64, 200)
    assert (recipe.validation, recipe.shuffle_split, recipe.stop_patience, recipe.monitor) == (
        0.2,
        True,
        10,
        "val_loss",
    )
    assert (recipe.model.dropout, recipe.model.head_dropout, recipe.model.constant_branches) == (0.25, 0.4, "compute")


# Any two of the three choices meet.
@pytest.mark.parametrize(
    ("formulation", "xla", "optimizer"),
    [("direct", False, Adam), ("direct", True, AdamW), ("folded", False, AdamW), ("folded", True, Adam)],
)
def test_skipping_constant_branches_changes_nothing(formulation, xla, optimizer):
    whole, losses = _trained(20, xla=xla, optimizer=optimizer, formulation=formulation)
    skipping, skipping_losses = _trained(20, xla=xla, optimizer=optimizer, constant_branches="skip")
    np.testing.assert_allclose(skipping_losses, losses, rtol=1e-12)
    fresh = build(TimeSeriesTransformer, key=KEY, dtype=tf.float64, **SMALL).named_variables()
    for path, variable in whole.named_variables().items():
        np.testing.assert_allclose(skipping.named_variables()[path], variable, rtol=1e-11, atol=1e-15, err_msg=path)
        if "blocks" not in path or path.endswith("beta"):
            assert not np.array_equal(variable, fresh[path]), f"{path} did not learn"
    series, _ = _batch(99, dtype=tf.float64)
    np.testing.assert_allclose(skipping(series), whole(series), rtol=1e-10)


def test_gradients_of_what_is_skipped_are_exactly_zero_when_it_is_computed():
    # In float32 too: the centred value is exactly 0, so no rounding can leak through.
    model = build(TimeSeriesTransformer, key=KEY, **SMALL)
    series, labels = _batch(0)
    with tf.GradientTape() as tape:
        logits = model(series, training=True, key=KEY)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    variables = model.named_variables()
    gradients = dict(zip(variables, tape.gradient(loss, list(variables.values())), strict=True))
    for path, gradient in gradients.items():
        dead = "blocks" in path and not path.endswith("beta")
        assert dead == (gradient is None or not np.any(gradient)), path


def test_attention_earns_gradients_where_a_step_has_more_than_one_feature():
    model = build(TimeSeriesTransformer, key=KEY, channels=3, **SMALL)
    series = tf.random.stateless_normal((5, 131, 3), (0, 1))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(series) ** 2)
    kernel = model.blocks[0].attention.query.kernel
    assert np.any(tape.gradient(loss, kernel))


def test_a_branch_is_skipped_only_where_the_sizes_prove_it_constant():
    block = PostNormBlock(width=1, heads=3, key_dim=5, hidden=7, dropout=0.0, site=0, constant_branches="skip", key=KEY)
    x = tf.random.stateless_normal((2, 13, 1), (0, 1))
    block.attention_norm.beta.assign([0.25])
    block.output_norm.beta.assign([0.5])
    np.testing.assert_allclose(block(x), x + 0.75, rtol=1e-6)
    with pytest.raises(ValueError, match=r"needs width 1.*got width 3"):
        build(TimeSeriesTransformer, key=KEY, channels=3, constant_branches="skip")
    with pytest.raises(ValueError, match=r"over one feature.*not over 3"):
        LayerNorm(width=3).constant()


def test_a_skipped_branchs_gradient_is_no_half_precision_sum():
    block = PostNormBlock(
        width=1, heads=2, key_dim=3, hidden=5, dropout=0.0, site=0, constant_branches="skip", key=KEY, dtype=tf.float16
    )
    with tf.GradientTape() as tape:
        y = block(tf.zeros((1031, 67, 1), tf.float16))
    betas = [block.attention_norm.beta, block.output_norm.beta]
    for gradient in tape.gradient(y, betas):
        assert gradient.dtype == tf.float32
        np.testing.assert_array_equal(gradient, [1031 * 67])  # float16 ends at 65,504


def test_uniform_attention_is_the_mean_of_the_values_that_a_query_may_see():
    layer = MultiHeadAttention(width=5, heads=3, key_dim=7, formulation="uniform", key=KEY, dtype=tf.float64)
    x = tf.random.stateless_normal((2, 13, 5), (0, 1), dtype=tf.float64)
    mask = np.random.default_rng(0).random((2, 1, 13, 13)) < 0.6
    values = layer.value(x).numpy()  # (2, 3, 13, 7)
    means = np.zeros_like(values)
    for b, n, t in np.ndindex(2, 3, 13):
        means[b, n, t] = values[b, n, mask[b, 0, t]].mean(axis=0)
    expected = layer.output(tf.constant(means))
    with tf.GradientTape() as tape:
        y = layer(x, mask=tf.constant(mask))
    np.testing.assert_allclose(y, expected, rtol=1e-10)
    assert not np.any(tape.gradient(y, layer.query.kernel))
    np.testing.assert_allclose(layer.weights(x), np.full((2, 3, 13, 13), 1 / 13))


def test_folded_attention_in_bfloat16_returns_bfloat16():
    layers = [
        MultiHeadAttention(width=3, heads=2, key_dim=8, formulation=f, key=KEY, dtype=dtype)
        for f, dtype in (("folded", tf.bfloat16), ("direct", tf.float32))
    ]
    x = tf.random.stateless_normal((2, 13, 3), (0, 1))
    mixed, full = (layer(x) for layer in layers)
    assert mixed.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(mixed, tf.float32), full, rtol=0.05, atol=0.02)


def test_attention_maps_are_those_of_each_block():
    model = build(TimeSeriesTransformer, key=KEY, **SMALL)
    maps = attention_maps(model, _batch(0)[0], MultiHeadAttention)
    assert [tuple(weights.shape) for weights in maps] == [(13, 3, 131, 131)] * 2


@pytest.mark.parametrize("length", [5, 24, 500])
def test_the_mended_model_has_as_many_parameters_at_every_length(length):
    recipe = recipes.get("transformer_forda_mended")
    model = fresh_model(recipe, Sizes((length, 1), 2))
    assert sum(int(np.prod(variable.shape)) for variable in model.named_variables().values()) == 37_954 <= 93_130
    assert model(tf.ones((3, length, 1))).shape == (3, 2)


def test_every_time_step_lies_in_as_many_windows():
    tokens = SeriesTokens(length=13, window=6, stride=3, width=2, key=KEY, dtype=tf.float64)
    tokens.projection.kernel.assign(tf.ones((6, 2), tf.float64))
    counted = [np.sum(tokens(tf.one_hot([step], 13, dtype=tf.float64)) - tokens.positions) / 2 for step in range(13)]
    np.testing.assert_allclose(counted, 2)
    assert tokens.count == 6


def test_shifts_are_equal_in_every_mode_and_only_in_training():
    layer, x = RandomShift(4, site=3), tf.reshape(tf.range(65.0), (5, 13))
    assert layer(x) is x and RandomShift(0, site=3)(x, training=True) is x
    eager = layer(x, training=True, key=KEY)
    for xla in (False, True):
        run = tf.function(lambda x: layer(x, training=True, key=KEY), jit_compile=xla)
        np.testing.assert_array_equal(run(x), eager)
    draws = random.integers(KEY, [100_003], -4, 4).numpy()
    np.testing.assert_allclose(np.bincount(draws + 4) / 100_003, 1 / 9, atol=0.005)


REFUSED = {
    "width and heads": (lambda: build(WindowTransformer, key=KEY, width=62), "multiple of the 4 heads, got 62"),
    "window": (lambda: build(WindowTransformer, key=KEY, window=30), "multiple of the stride 8, got 30"),
    "odd width": (lambda: build(WindowTransformer, key=KEY, width=63, heads=3), "must be even.*got 63"),
    "sinusoids": (lambda: sinusoids(0, 4), "count must be at least 1, got 0"),
    "shift": (lambda: build(WindowTransformer, key=KEY, shift=1.0), "below 1, such as 0.1, got 1.0"),
    "reach": (lambda: RandomShift(-1, site=0), "at least 0, got -1"),
    "no key": (lambda: RandomShift(1, site=0)(tf.ones((1, 3)), training=True), "needs a key"),
    "no blocks": (lambda: build(WindowTransformer, key=KEY, blocks=0), "blocks must be at least 1, got 0"),
    "channels": (lambda: build(WindowTransformer, key=KEY)(tf.ones((1, 500, 2))), r"\(B, 500, 1\), got \(1, 500, 2"),
    "length": (
        lambda: build(TimeSeriesTransformer, key=KEY, **SMALL)(_batch(0, length=130)[0]),
        r"\(B, 131, 1\), got \(13, 130",
    ),
    "blocks": (
        lambda: build(TimeSeriesTransformer, key=KEY, **{**SMALL, "blocks": -1}),
        "blocks must be at least 0, got -1",
    ),
    "branches": (
        lambda: build(TimeSeriesTransformer, key=KEY, constant_branches="drop"),
        "compute or skip, got 'drop'",
    ),
    "formulation": (lambda: build(TimeSeriesTransformer, key=KEY, formulation="fold"), "'fold'"),
    "images": (lambda: recipes.get("transformer_forda").changed([("dataset", "cifar10")]), "a set of images"),
    "series": (lambda: recipes.get("inn_cifar10").changed([("dataset", "FordA")]), "one of cifar10, cifar100"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_settings_are_refused_with_the_value(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build()
