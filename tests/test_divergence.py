"""Where two computations part: planted faults are named, healthy pairs are not accused."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from loops import data, recipes
from loops.devices.distribution import ONE_DEVICE
from loops.health.divergence import Step, check_same, compare_recipes, compare_steps, recorded_step
from loops.health.growth import growth_of, measure_growth
from loops.learner import prepare
from loops.studies import numerics_table
from tests.support.tiny import TINY, tiny_dataset
from tfcore.context import interceptable
from tfcore.inspect.numerics import record_file
from tfcore.inspect.numerics.batch_invariance import batch_invariance
from tfcore.inspect.numerics.divergence import compare
from tfcore.inspect.numerics.record_file import load_record, save_record
from tfcore.inspect.numerics.recording import Computation, marked_keras, record
from tfcore.inspect.numerics.referee import Rounding, follow
from tfcore.inspect.pages.divergence_report import divergence_html
from tfcore.module import Module
from tfcore.ops.activations import relu

WIDTH = 6
numbers = np.random.default_rng(0)
WEIGHTS = {
    "dense/kernel": numbers.uniform(-1, 1, (WIDTH, WIDTH)),
    "dense/bias": numbers.uniform(-1, 1, WIDTH),
    "norm/gamma": numbers.uniform(0.5, 1.5, WIDTH),
    "norm/beta": numbers.uniform(-1, 1, WIDTH),
    "batch_norm/moving_mean": numbers.uniform(-1, 1, WIDTH),
    "head/kernel": numbers.uniform(-1, 1, (WIDTH, 3)),
}
X = 0.05 * numbers.normal(size=(5, 4, WIDTH))  # of small variance, which an epsilon of 1e-3 changes
TARGET = numbers.normal(size=(5, 3))


def network(dtype: tf.DType, fault: str = "", xla: bool | None = None) -> Computation:
    """A step of a network by hand, (5, 4, 6) -> (5, 3), with a fault or none."""
    w = {name: tf.Variable(value, dtype=dtype, trainable="moving" not in name) for name, value in WEIGHTS.items()}

    def run(mark):
        x = tf.constant(X, dtype)
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        epsilon = 1e-3 if fault == "epsilon" else 1e-6
        x = w["norm/gamma"] * (x - mean) / tf.sqrt(variance + epsilon) + w["norm/beta"]
        x = mark("norm", x)
        x = tf.einsum("btc,cd->btd", x, tf.transpose(w["dense/kernel"]) if fault == "kernel" else w["dense/kernel"])
        x = mark("dense", x if fault == "bias" else x + w["dense/bias"])
        x = mark("gelu(dense)", tf.nn.gelu(x, approximate=fault == "gelu"))
        momentum = 0.9 if fault == "momentum" else 0.99
        mean = tf.reduce_mean(x, [0, 1])
        w["batch_norm/moving_mean"].assign(momentum * w["batch_norm/moving_mean"] + (1 - momentum) * mean)
        x = mark("batch_norm", x - mean)
        x = mark("pool", tf.reduce_mean(tf.nn.relu(x), 1))
        x = mark("head", x @ w["head/kernel"])
        return tf.reduce_sum((x - tf.constant(TARGET, dtype)) ** 2)

    def update(gradients):
        for name, gradient in gradients.items():
            w[name].assign_sub(0.1 * gradient)

    return Computation(run, w, update, xla)


@pytest.mark.parametrize(
    ("fault", "direction", "name"),
    [
        ("epsilon", "forward", "norm"),
        ("kernel", "forward", "dense"),
        ("bias", "forward", "dense"),
        ("gelu", "forward", "gelu(dense)"),
        ("momentum", "backward", "batch_norm/moving_mean"),
    ],
)
def test_a_planted_fault_is_named_and_on_the_side_that_has_it(fault, direction, name):
    found = compare(record(network(tf.float32)), record(network(tf.float32, fault)), network(tf.float64))
    verdict = getattr(found, direction)
    assert verdict.fault and verdict.tensor.name == name
    assert verdict.tensor.b.fault and not verdict.tensor.a.fault
    assert verdict.sentence.startswith("b parts from float64")


def test_what_comes_after_a_fault_is_not_accused():
    found = compare(record(network(tf.float32)), record(network(tf.float32, "gelu")), network(tf.float64))
    accused = [tensor.name for tensor in found.tensors if tensor.kind == "forward" and tensor.b.fault]
    assert accused == ["gelu(dense)"]
    later = next(tensor for tensor in found.tensors if tensor.kind == "forward" and tensor.name == "head")
    assert later.b.error > 100 * later.a.error  # though it is far off


@pytest.mark.parametrize(("dtype", "xla"), [("float32", False), ("float32", True), ("bfloat16", None)])
def test_a_healthy_pair_is_not_accused(dtype, xla):
    if dtype == "bfloat16":
        side = record(rounded())
    else:
        side = record(network(tf.float32, xla=xla))
    found = compare(record(network(tf.float32)), side, network(tf.float64), formats=("float32", dtype))
    assert not found.fault, (found.forward.sentence, found.backward.sentence)
    assert "as expected" in found.backward.sentence


def rounded() -> Computation:
    """The network whose marked tensors are rounded to bfloat16."""
    healthy = network(tf.float32)

    def run(mark):
        return healthy.run(lambda name, x: tf.cast(tf.cast(mark(name, x), tf.bfloat16), tf.float32))

    return dataclasses.replace(healthy, run=run)


def test_a_record_of_itself_is_bit_equal_and_leaves_the_variables_alone():
    computation = network(tf.float32)
    before = {name: variable.numpy() for name, variable in computation.variables.items()}
    a, b = record(computation), record(computation)
    for name, variable in computation.variables.items():
        np.testing.assert_array_equal(variable.numpy(), before[name])
    found = compare(a, b, network(tf.float64))
    assert found.forward.sentence == "forward: bit-equal everywhere"
    assert found.backward.sentence == "backward: bit-equal everywhere"


def test_the_referee_that_follows_itself_finds_no_error():
    referee = network(tf.float64)
    exact = record(referee)
    own = follow(referee, exact)
    for kind in ("forward", "backward", "gradients", "after"):
        for name, value in getattr(exact, kind).items():
            np.testing.assert_allclose(getattr(own, kind)[name], value, rtol=1e-13, atol=1e-13, err_msg=name)


def test_nearly_equal_numbers_amplify():
    def run(mark):
        x = mark("x", tf.constant([1000.0, 2000.0], tf.float64))
        y = mark("near", x + 1.0)
        return tf.reduce_sum(mark("difference", y - x))

    computation = Computation(run, {"w": tf.Variable(1.0, dtype=tf.float64)})
    exact = record(computation)
    moved = follow(computation, exact, Rounding("float32"))
    own = follow(computation, exact)
    movement = np.abs(moved.forward["difference"] - own.forward["difference"]).max()
    assert movement > 100 * 2.0**-24


def test_shapes_of_another_structure_are_refused():
    a = record(network(tf.float32))
    other = dataclasses.replace(a, forward=a.forward | {"dense": np.zeros((2, 2), np.float32)})
    with pytest.raises(ValueError, match="output of dense has shape"):
        compare(a, other, network(tf.float64))


def keras_side(dense: keras.layers.Layer, reader) -> Computation:
    """A Keras layer with our weights as the network's middle, marked from outside."""

    def run(mark):
        with marked_keras({"dense": dense}, mark):
            return tf.reduce_sum(reader(dense(tf.constant(X, tf.float32))) ** 2)

    return Computation(run, {"dense/kernel": dense.kernel.value, "dense/bias": dense.bias.value})


@pytest.mark.parametrize("fault", ["", "transposed", "axis"])
def test_a_copied_keras_layer_is_found(fault):
    kernel, bias = WEIGHTS["dense/kernel"], WEIGHTS["dense/bias"]
    dense = keras.layers.Dense(WIDTH)
    dense.build((None, 4, WIDTH))
    dense.set_weights([kernel.T if fault == "transposed" else kernel, bias])
    variables = {name: tf.Variable(WEIGHTS[name]) for name in ("dense/kernel", "dense/bias")}

    def run(mark):
        y = mark("dense", tf.constant(X) @ variables["dense/kernel"] + variables["dense/bias"])
        return tf.reduce_sum(tf.reduce_mean(y, 1) ** 2)

    def reader(y):
        return tf.reduce_mean(y, 2 if fault == "axis" else 1)

    referee = Computation(run, variables)
    ours = record(Computation(run, variables))
    found = compare(ours, record(keras_side(dense, reader)), referee, formats=("float64", "float32"))
    first = {"": None, "transposed": "dense", "axis": "loss"}[fault]
    assert (found.forward.tensor.name if found.forward.fault else None) == first


def test_a_recipe_compiled_and_not_differs_by_rounding_only():
    recipe = tiny_convnet()
    found = compare_recipes(recipe, recipe.changed([("precision", "mixed_bfloat16")]), tiny_dataset(), examples=3)
    assert not found.fault, (found.forward.sentence, found.backward.sentence)
    assert found.formats == ("float32", "bfloat16") and not any(found.only)
    first = next(tensor for tensor in found.tensors if tensor.name == "convolutions/0")
    assert first.line.startswith("conv.py:") and first.formula
    assert first.b.error > 100 * first.a.error


def test_other_mathematics_are_refused():
    recipe = recipes.get("vit_cifar100")
    with pytest.raises(ValueError, match="dropout changes the mathematics"):
        check_same(recipe, recipe.changed([("dropout", "0.2")]))
    for other in ("none", "fused"):  # fused interpolates once, the chain after each transform
        with pytest.raises(ValueError, match="augmentation changes the mathematics"):
            check_same(recipe, recipe.changed([("augmentation", other)]))
    check_same(recipe, recipe.changed([("formulation", "direct"), ("xla", "on")]))


def test_a_record_goes_through_a_file_bit_by_bit(tmp_path):
    before = record(network(tf.float32))
    save_record(tmp_path / "one.npz", before, {"format": "float32"})
    after, about = load_record(tmp_path / "one.npz")
    assert about == {"format": "float32"} and after.dtypes == before.dtypes
    assert compare(before, after, network(tf.float64)).forward.tensor is None
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no record of a step"):
        load_record(tmp_path / "other.npz")


def test_a_record_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(record_file, "VERSION", 99)
    save_record(tmp_path / "one.npz", record(network(tf.float32)), {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="version 99 of the format, and this is 1"):
        load_record(tmp_path / "one.npz")


def tiny_convnet(**changes):
    settings = dict(setting.split("=") for setting in TINY["convnet_cifar10"]) | {"batch_size": "4", "data": "sample"}
    return recipes.get("convnet_cifar10").changed((settings | {"xla": "off"} | changes).items())


def test_steps_from_other_weights_or_batches_are_refused():
    recipe, dataset = tiny_convnet(), tiny_dataset()
    weights = Step(recipe, dataset, 3).weights
    side = recorded_step(recipe, dataset, examples=3, weights=weights)
    other = recorded_step(tiny_convnet(), dataset, examples=3, weights={n: v + 1 for n, v in weights.items()})
    with pytest.raises(ValueError, match="b was recorded from other weights"):
        compare_steps(side, other, recipe, dataset, examples=3, weights=weights)
    with pytest.raises(ValueError, match="a was recorded from other batch"):
        compare_steps(side, side, recipe, dataset, examples=2, weights=weights)


def test_growth_tells_chaos_from_drift():
    assert growth_of([1e-7 * 3.0**step for step in range(10)]).sentence.startswith("chaos")
    assert growth_of([1e-7 * 3.0**step for step in range(10)]).rate == pytest.approx(3.0)
    for drift in (lambda n: n**0.5, lambda n: float(n)):
        assert growth_of([1e-7 * drift(step) for step in range(1, 21)]).sentence.startswith("drift")
    assert growth_of([0.0] * 5).sentence == "bit-equal weights after all steps"


def test_the_weights_of_one_recipe_stay_equal_and_of_two_precisions_part():
    recipe, dataset = tiny_convnet(), tiny_dataset()
    weights = Step(recipe, dataset, 3).weights
    start = {"steps": 3, "examples": 3, "weights": weights}
    assert measure_growth(recipe, recipe, dataset, **start).distances == [0.0] * 3
    half = tiny_convnet(precision="mixed_bfloat16")
    assert min(measure_growth(recipe, half, dataset, **start).distances) > 0


def test_a_layer_that_looks_at_its_batch_is_found():
    class Mixing(Module):
        def __call__(self, x):
            return x - tf.reduce_mean(x, axis=0)

    class Model(Module):
        def __init__(self):
            super().__init__()
            self.mixing = Mixing()

        def __call__(self, x, *, training):
            tf.debugging.assert_non_negative(table(tf.ones([4, 4])))  # as many rows as the batch, yet no examples
            return relu(self.mixing(relu(x)))

    @interceptable
    def table(x):
        return x

    inputs = tf.constant(numbers.normal(size=(4, 3)))
    rows = {row.name: row.distances for row in batch_invariance(Model(), inputs, xla=False)}
    assert not any(name.startswith("table") for name in rows)
    assert max(rows["relu(in model)"].values()) == 0
    assert rows["mixing"]["alone"] > 0.01 and rows["mixing"]["in a smaller batch"] > 0.01
    with pytest.raises(ValueError, match="at least 4 examples"):
        batch_invariance(Model(), tf.zeros((3, 3)), xla=False)


def test_the_page_has_the_verdicts_and_every_tensor():
    found = compare(record(network(tf.float32)), record(network(tf.float32, "gelu")), network(tf.float64))
    html = divergence_html(found, "made up", "about", [1e-7, 3e-7, 9e-7], "chaos")
    assert "b parts from float64 in the output of gelu(dense)" in html and "<polyline" in html
    assert html.count("<tr") >= len(found.tensors)


@pytest.mark.parametrize(
    ("name", "change"), [("inn_cifar10", ("xla", "on")), ("vit_cifar100", ("precision", "mixed_float16"))]
)
def test_a_healthy_recipe_is_not_accused(name, change):
    settings = [tuple(setting.split("=")) for setting in TINY[name]]
    recipe = recipes.get(name).changed([*settings, ("batch_size", "4"), ("data", "sample"), ("xla", "off")])
    found = compare_recipes(recipe, recipe.changed([change]), tiny_dataset(), examples=4)
    assert not found.fault, (found.forward.sentence, found.backward.sentence)
    assert found.forward.tensor is not None and found.backward.tensor is not None


def test_the_table_of_recipes_has_a_row_for_each_pair(monkeypatch):
    monkeypatch.setattr(numerics_table, "pairs", lambda name: iter([("precision=float32", "precision=mixed_bfloat16")]))
    (row,) = numerics_table.rows(["mlp_forda"], ONE_DEVICE, steps=2, examples=3)
    assert (row.recipe, row.a, row.b) == ("mlp_forda", "precision=float32", "precision=mixed_bfloat16")
    assert 1e-4 < row.forward < 0.1 and 1e-4 < row.backward < 0.5 and row.explained <= 1 and row.growth > 0
    assert row.forward_at and row.backward_at


def test_every_recipe_has_its_pairs():
    for name in recipes.RECIPES:
        own = list(numerics_table.pairs(name))
        assert ("xla=off", "xla=on") in own and len(own) >= 3
        for side in (one for pair in own for one in pair):
            recipes.get(name).changed([tuple(side.split("="))])


def test_every_recipe_can_be_compared_on_the_made_up_set():
    """One was refused there: its warm-up was longer than its epochs of so few images."""
    for name in recipes.RECIPES:
        recipe = numerics_table.compared(name)
        prepare(recipe, data.of_recipe(recipe))
