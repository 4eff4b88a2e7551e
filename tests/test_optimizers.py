"""Optimizers at their edges: refusals, skipped steps, rates that change, clipping. Their numbers: the catalog."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.support.build import build
from tfcore.optimizers import updates
from tfcore.optimizers.optimizer import Adam, AdamW, Lamb, Muon, RmsProp, Sgd

ADAM_FAMILY = {
    "Adam": functools.partial(build, Adam),
    "AdamW": functools.partial(build, AdamW, weight_decay=0.01),
    "AdamW unscaled": functools.partial(build, AdamW, weight_decay=0.01, decay="unscaled"),
    "Muon": functools.partial(build, Muon, weight_decay=0.01),
    "Lamb": functools.partial(build, Lamb, weight_decay=0.01),
}
DESCENT = {
    "Sgd": functools.partial(build, Sgd),
    "Sgd momentum": functools.partial(build, Sgd, momentum=0.9),
    "Sgd Nesterov": functools.partial(build, Sgd, momentum=0.9, nesterov=True),
    "RmsProp": functools.partial(build, RmsProp),
    "RmsProp momentum": functools.partial(build, RmsProp, momentum=0.9),
    "RmsProp centered": functools.partial(build, RmsProp, centered=True),
    "RmsProp centered momentum": functools.partial(build, RmsProp, centered=True, momentum=0.9),
}
MAKERS = ADAM_FAMILY | DESCENT
SLOTS = {
    **dict.fromkeys(ADAM_FAMILY, ("m", "v")),
    "Sgd": (),
    "Sgd momentum": ("velocity",),
    "Sgd Nesterov": ("velocity",),
    "RmsProp": ("mean_square",),
    "RmsProp momentum": ("mean_square", "velocity"),
    "RmsProp centered": ("mean_square", "mean"),
    "RmsProp centered momentum": ("mean_square", "mean", "velocity"),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
adam_family = pytest.mark.parametrize("make", ADAM_FAMILY.values(), ids=ADAM_FAMILY)


def _variables(dtype=tf.float32):
    return {"kernel": tf.Variable(tf.ones([3, 5], dtype)), "bias": tf.Variable(tf.zeros([5], dtype))}


def _gradients(value=1.0):
    return {"kernel": tf.fill([3, 5], value), "bias": tf.fill([5], value)}


def _state(variables, optimizer):
    return [variable.numpy().copy() for variable in (*variables.values(), *optimizer.named_variables().values())]


@every_optimizer
@pytest.mark.parametrize(
    ("field", "value", "advice"),
    [
        ("learning_rate", -1e-3, "positive, such as 0.001"),
        ("learning_rate", 0.0, "positive"),
        ("learning_rate", float("nan"), "positive"),
        ("learning_rate", float("inf"), "positive"),
        ("clip_norm", 0.0, "positive, such as 1.0, or None"),
        ("clip_norm", float("inf"), "positive"),
    ],
)
def test_refuses_impossible_lengths(make, field, value, advice):
    with pytest.raises(ValueError, match=rf"{field} must be .*{advice}.*, got {value}"):
        make(_variables(), **{field: value})


@adam_family
@pytest.mark.parametrize(
    ("field", "value", "advice"),
    [
        ("epsilon", 0.0, "positive, such as"),
        ("beta_1", 1.0, "below 1, such as 0.9"),
        ("beta_1", -0.1, "at least 0"),
        ("beta_2", 1.5, "below 1, such as 0.999"),
    ],
)
def test_refuses_impossible_settings_of_adam(make, field, value, advice):
    with pytest.raises(ValueError, match=rf"{field} must be .*{advice}.*, got {value}"):
        make(_variables(), **{field: value})


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (AdamW, {"weight_decay": -1e-4}, "AdamW: weight_decay must be at least 0, such as"),
        (AdamW, {"weight_decay": float("nan")}, "AdamW: weight_decay must be at least 0"),
        (AdamW, {"weight_decay": -1e-4, "decay": "unscaled"}, "AdamW: weight_decay must be at least 0"),
        (AdamW, {"weight_decay": 1.0, "decay": "unscaled"}, "below 1, such as 0.0001, got 1.0"),
        (AdamW, {"weight_decay": 0.1, "decay": "keras"}, "AdamW: decay must be one of scaled, unscaled, got 'keras'"),
        (Lamb, {"weight_decay": -1e-4}, "Lamb: weight_decay must be at least 0, such as"),
        (Muon, {"momentum": 1.0}, "Muon: momentum must be at least 0 and below 1, such as 0.95, got 1.0"),
        (Muon, {"ns_steps": 0}, "Muon: ns_steps must be at least 1, such as 5, got 0"),
        (Muon, {"rms": 0.0}, "Muon: rms must be positive, such as 0.2, got 0.0"),
        (Muon, {"decay": "unscaled"}, "Muon: decay must be 'scaled'"),
        (Sgd, {"momentum": 1.0}, "Sgd: momentum must be at least 0 and below 1, such as 0.9, got 1.0"),
        (Sgd, {"momentum": -0.1}, "Sgd: momentum must be at least 0 .*, got -0.1"),
        (Sgd, {"momentum": float("nan")}, "Sgd: momentum must be .*, got nan"),
        (Sgd, {"nesterov": True}, "Sgd: nesterov must be False without a momentum, such as 0.9, got True"),
        (RmsProp, {"momentum": 1.0}, "RmsProp: momentum must be at least 0 and below 1, such as 0.9, got 1.0"),
        (RmsProp, {"momentum": -0.1}, "RmsProp: momentum must be at least 0 .*, got -0.1"),
        (RmsProp, {"rho": 1.0}, "RmsProp: rho must be at least 0 and below 1, such as 0.9, got 1.0"),
        (RmsProp, {"rho": -0.1}, "RmsProp: rho must be at least 0 .*, got -0.1"),
        (RmsProp, {"epsilon": 0.0}, "RmsProp: epsilon must be positive, such as 1e-07, got 0.0"),
        (RmsProp, {"epsilon": float("inf")}, "RmsProp: epsilon must be positive.*, got inf"),
    ],
)
def test_refuses_what_one_class_alone_can_be_given(make, settings, message):
    with pytest.raises(ValueError, match=message):
        build(make, _variables(), **settings)


@every_optimizer
def test_refuses_gradients_of_other_variables(make):
    optimizer = make(_variables())
    with pytest.raises(ValueError, match=rf"{type(optimizer).__name__}: .*these differ: bias"):
        optimizer.apply({"kernel": tf.ones([3, 5])})


@pytest.mark.parametrize("name", MAKERS)
def test_checkpoint_paths(name):
    """Only the slots that the settings need."""
    paths = list(MAKERS[name](_variables(), clip_norm=1.0).named_variables())
    slots = [f"{slot}/{variable}" for slot in SLOTS[name] for variable in ("kernel", "bias")]
    if name == "Muon":
        slots.remove("v/kernel")
    assert paths == ["learning_rate", "iterations", *slots]


@every_optimizer
@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_a_skipped_step_leaves_everything_as_it_was(make, clip_norm, value):
    variables = _variables()
    optimizer = make(variables, clip_norm=clip_norm)
    optimizer.apply(_gradients(0.5), condition=tf.constant(True))
    before = _state(variables, optimizer)
    optimizer.apply(_gradients(value), condition=tf.constant(False))
    for old, new in zip(before, _state(variables, optimizer), strict=True):
        np.testing.assert_array_equal(old, new)


@every_optimizer
def test_a_condition_that_holds_changes_nothing(make):
    states = []
    for condition in (None, tf.constant(True)):
        variables = _variables()
        optimizer = make(variables)
        optimizer.apply(_gradients(0.5), condition=condition)
        assert int(optimizer.iterations) == 1
        states.append(_state(variables, optimizer))
    for without, with_condition in zip(*states, strict=True):
        np.testing.assert_array_equal(without, with_condition)


@every_optimizer
@pytest.mark.parametrize("xla", [False, True])
def test_the_learning_rate_changes_without_a_retrace(make, xla):
    variables = _variables()
    optimizer = make(variables, clip_norm=1.0)
    step = tf.function(lambda: optimizer.apply(_gradients()), jit_compile=xla, autograph=False)
    step()
    moved = []
    for rate in (1e-1, 1e-5):
        before = variables["kernel"].numpy()
        optimizer.learning_rate.assign(rate)
        step()
        moved.append(np.abs(variables["kernel"].numpy() - before).max())
    assert step.experimental_get_tracing_count() == 1
    if make is MAKERS["AdamW unscaled"]:
        assert moved[1] == pytest.approx(0.01 * variables["kernel"].numpy().max(), rel=0.05)  # the decay stays
    elif "velocity" in optimizer.slots:
        assert 0.4 * moved[0] < moved[1] < moved[0]  # the old rate stands inside the velocity
    else:
        assert moved[1] < moved[0] / 1000


def test_decay_alone():
    """With a zero gradient Adam does not move: what is left is the decay, in each convention."""
    for make, factor in (
        (functools.partial(build, AdamW, weight_decay=0.1), 1 - 0.5 * 0.1),
        (functools.partial(build, AdamW, weight_decay=0.1, decay="unscaled"), 1 - 0.1),
        # LAMB brings λ·θ to the length of θ: any decay shrinks by the learning rate.
        (functools.partial(build, Lamb, weight_decay=0.1), 1 - 0.5),
    ):
        variables = _variables()
        make(variables, learning_rate=0.5).apply(_gradients(0.0))
        np.testing.assert_allclose(variables["kernel"], np.full([3, 5], factor), rtol=1e-6)
        np.testing.assert_array_equal(variables["bias"], np.zeros(5))


def test_lamb_moves_a_variable_by_the_learning_rate_of_its_length():
    variables = _variables(tf.float64)
    build(Lamb, variables, learning_rate=0.01).apply(
        {name: tf.cast(g, tf.float64) for name, g in _gradients(123.0).items()}
    )
    assert np.linalg.norm(variables["kernel"].numpy() - 1) == pytest.approx(0.01 * np.sqrt(15), rel=1e-12)
    # A zero bias has no length to be measured by: the ratio is 1, and the step Adam's, of size α.
    np.testing.assert_allclose(variables["bias"], np.full(5, -0.01), rtol=1e-7)


def test_lamb_stays_still_for_a_zero_gradient():
    variables = _variables()
    build(Lamb, variables).apply(_gradients(0.0))
    np.testing.assert_array_equal(variables["kernel"], np.ones([3, 5]))
    np.testing.assert_array_equal(variables["bias"], np.zeros(5))


def test_clipping_takes_all_gradients_together():
    gradients = {"a": tf.constant([3.0, 0.0]), "b": tf.constant([[4.0]])}
    clipped, norm = updates.clip_by_global_norm(gradients, 1.0)
    assert float(norm) == 5.0
    np.testing.assert_allclose(clipped["a"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"], [[0.8]], rtol=1e-6)


@pytest.mark.parametrize("bound", [5.0, 6.0])
def test_clipping_leaves_short_gradients_exactly_alone(bound):
    gradients = {"a": tf.constant([3.0, 0.0]), "b": tf.constant([[4.0]])}
    clipped, _ = updates.clip_by_global_norm(gradients, bound)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(clipped[name], gradient)


def test_clipping_of_zero_gradients():
    clipped, norm = updates.clip_by_global_norm({"a": tf.zeros([3])}, 1.0)
    assert float(norm) == 0.0
    np.testing.assert_array_equal(clipped["a"], np.zeros(3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_clipping_spreads_a_norm_that_is_not_finite(bad):
    clipped, norm = updates.clip_by_global_norm({"a": tf.constant([1.0, 2.0]), "b": tf.constant([bad])}, 1.0)
    assert not np.isfinite(norm)
    assert np.isnan(clipped["a"]).all() and np.isnan(clipped["b"]).all()


def test_clipping_keeps_each_dtype_and_counts_in_a_wide_one():
    gradients = {"half": tf.fill([4], tf.constant(300.0, tf.float16)), "single": tf.constant([800.0])}
    clipped, norm = updates.clip_by_global_norm(gradients, 5.0)
    assert norm.dtype == tf.float32 and float(norm) == pytest.approx(1000.0)  # 300² is infinite in float16
    assert [gradient.dtype for gradient in clipped.values()] == [tf.float16, tf.float32]
    np.testing.assert_allclose(clipped["half"], np.full(4, 1.5), rtol=1e-3)
    gradients["double"] = tf.constant([1.0], tf.float64)
    assert updates.clip_by_global_norm(gradients, 5.0)[1].dtype == tf.float64


def test_an_optimizer_steps_by_the_clipped_gradients():
    variables = _variables()
    optimizer = build(Adam, variables, clip_norm=1.0, beta_1=0.9)
    optimizer.apply(_gradients(10.0))
    # After one step from zero, m is a tenth of the gradient: all twenty together are of length 1.
    np.testing.assert_allclose(optimizer.m["kernel"], np.full([3, 5], 0.1 / np.sqrt(20)), rtol=1e-5)
    np.testing.assert_allclose(optimizer.m["bias"], np.full(5, 0.1 / np.sqrt(20)), rtol=1e-5)


@every_optimizer
def test_gradients_of_a_lookup(make):
    """An embedding's gradient comes as rows and their numbers, some of them twice."""
    tables = []
    for dense in (False, True):
        table = tf.Variable(tf.ones([7, 3]))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, [2, 5, 2]) ** 2)
        gradient = tape.gradient(loss, table)
        assert isinstance(gradient, tf.IndexedSlices)
        make({"table": table}, clip_norm=1.0).apply({"table": tf.convert_to_tensor(gradient) if dense else gradient})
        tables.append(table.numpy())
    np.testing.assert_array_equal(*tables)


def test_rmsprop_of_a_steady_gradient():
    """Its steps go to α · sign(g). Centered, they stay finite though g's variance is then rounding, of either sign."""
    for centered in (False, True):
        variables = {"theta": tf.Variable(tf.zeros([1009]))}
        optimizer = build(RmsProp, variables, rho=0.5, centered=centered)
        for _ in range(60):
            optimizer.apply({"theta": tf.linspace(1.0, 1e3, 1009)})
        found = variables["theta"].numpy()
        assert np.isfinite(found).all()
        if not centered:
            np.testing.assert_allclose(found, -1e-3 * sum((1 - 0.5 ** (t + 1)) ** -0.5 for t in range(60)), rtol=1e-5)


def test_momentum_goes_on_without_a_gradient_and_nesterov_looks_ahead():
    for nesterov, steps in ((False, (1.0, 0.5, 0.25)), (True, (1.5, 0.25, 0.125))):
        variables = _variables()
        optimizer = build(Sgd, variables, learning_rate=0.1, momentum=0.5, nesterov=nesterov)
        at = 0.0
        for i, step in enumerate(steps):
            optimizer.apply(_gradients(1.0 if i == 0 else 0.0))
            at -= 0.1 * step
            np.testing.assert_allclose(variables["bias"], np.full(5, at), rtol=1e-6)


def test_plain_descent_steps_by_the_clipped_gradients():
    variables = _variables()
    build(Sgd, variables, learning_rate=0.5, clip_norm=1.0).apply(_gradients(10.0))
    np.testing.assert_allclose(variables["bias"], np.full(5, -0.5 / np.sqrt(20)), rtol=1e-5)


def test_muon_orthogonalizes_kernels_and_nothing_else():
    shapes = {"dense/kernel": (7, 5), "convolution/kernel": (3, 3, 5, 2), "depthwise/kernel": (3, 3, 5, 1)}
    shapes |= {"dense/bias": (5,), "logits/kernel": (5, 3), "position/embeddings": (5, 3)}
    shapes |= {"query/kernel": (7, 3, 2), "query/bias": (3, 2), "output/kernel": (3, 2, 7)}
    optimizer = build(Muon, {name: tf.Variable(tf.ones(shape)) for name, shape in shapes.items()})
    assert optimizer.kernels == {"dense/kernel": 1, "convolution/kernel": 3, "query/kernel": 1, "output/kernel": 2}
    assert list(optimizer.v) == [name for name in shapes if name not in optimizer.kernels]
    assert optimizer.m.keys() == shapes.keys()
    for name, rows in (("query/kernel", 7), ("output/kernel", 6)):
        variable = tf.Variable(tf.zeros(shapes[name]))
        gradient = tf.random.stateless_normal(shapes[name], [0, 2])
        build(Muon, {name: variable}, learning_rate=1.0, weight_decay=0.0, rms=7**-0.5).apply({name: gradient})
        singular = np.linalg.svd(tf.reshape(variable, [rows, -1]), compute_uv=False)
        assert singular.min() > 0.6 and singular.max() < 1.3, name
    matrix = tf.random.stateless_normal([11, 7], [0, 1])
    singular = np.linalg.svd(updates.orthogonalized(matrix, 5), compute_uv=False)
    assert singular.min() > 0.6 and singular.max() < 1.3
