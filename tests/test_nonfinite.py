"""The first tensor that is not finite: in which layer, phase, loop and line, and which infinities are meant."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.build import build
from tests.support.planted import KEY, line_of
from tfcore.inspect.numerics.nonfinite import first_nonfinite
from tfcore.layers.attention import MultiHeadAttention
from tfcore.layers.dense import Dense
from tfcore.module import Module
from tfcore.optimizers.optimizer import Sgd

ROWS = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 4.0], [5.0, 0.5, 2.0]], np.float32)  # the second one has no good end


class Root(Module):
    """Its gradient at 0 is infinite."""

    def __call__(self, x):
        return tf.sqrt(x)  # root


class Logarithm(Module):
    """Finite above 0 alone."""

    def __call__(self, x):
        return tf.math.log(x)  # logarithm


class Network(Module):
    """A sum of three features, and what is made of it."""

    def __init__(self, last: Module):
        super().__init__()
        self.first = Dense(inputs=3, units=1, key=KEY)
        self.first.kernel.assign([[1.0], [1.0], [1.0]])
        self.parts = {"last": last}

    def __call__(self, x):
        return self.parts["last"](self.first(x))


def _step(model, rate=1e-3):
    optimizer = build(Sgd, model.named_trainable_variables(), learning_rate=rate)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x))
        gradients = tape.gradient(loss, model.named_trainable_variables())
        optimizer.apply(gradients)
        return loss

    return step


def _find(function, *arguments):
    arguments = [tf.convert_to_tensor(argument) for argument in arguments]
    return first_nonfinite(function.get_concrete_function(*arguments), *arguments)


def test_forward_in_a_layer():
    found = _find(_step(Network(Logarithm())), ROWS)
    assert (found.layer, found.op_type, found.phase) == ("parts/last", "Log", "forward")
    assert found.source == line_of(Logarithm, "# logarithm")
    output, (given,) = found.output, found.inputs
    assert (output.nan, output.inf, output.rows, output.shape, output.dtype) == (0, 1, (1,), (3, 1), "float32")
    assert (output.low, output.high) == pytest.approx((np.log(6.0), np.log(7.5)))
    assert (given.nan, given.inf, given.low, given.high, given.rows) == (0, 0, 0.0, 7.5, ())
    assert str(given) == "float32 (3, 1): 0 .. 7.5" and str(output).startswith("float32 (3, 1): 1 Inf, 1.79")


def test_backward_in_a_layer():
    found = _find(_step(Network(Root())), ROWS)
    assert (found.layer, found.op_type, found.phase) == ("parts/last", "SqrtGrad", "backward")
    assert found.source == line_of(Root, "# root") and found.output.rows == (1,)


def test_update_of_a_layer():
    class Large(Module):
        def __call__(self, x):
            return x * 1e19

    model = Network(Large())
    found = _find(_step(model, rate=1e20), ROWS)
    assert (found.layer, found.phase, found.output.inf) == ("first", "update", 3)
    assert all(not x.nan and not x.inf for x in found.inputs)


def test_a_weight_and_an_input_that_were_so_before():
    model = Network(Logarithm())
    model.first.bias.assign([np.nan])
    found = _find(_step(model), ROWS)
    assert (found.layer, found.op_type, found.variable) == ("first", "ReadVariableOp", "bias")
    found = _find(_step(Network(Logarithm())), np.where(ROWS == 0.5, np.inf, ROWS))
    assert (found.op_type, found.phase, found.output.rows) == ("Placeholder", "forward", (2,))


def test_what_is_computed_and_not_chosen_is_no_mistake_until_its_gradient_is():
    class Chosen(Module):
        def __call__(self, x):
            return tf.where(x > 0, tf.math.log(x), 0.0)  # whose gradient is 0 · ∞ at 0

    model = Network(Chosen())
    assert _find(tf.function(lambda x: model(x)), ROWS) is None
    found = _find(_step(model), ROWS)
    assert (found.layer, found.phase) == ("parts/last", "backward") and found.op_type == "Reciprocal"


@pytest.mark.parametrize("formulation", ["direct", "chunked"])
def test_an_infinity_of_the_program_is_meant(formulation):
    """Masked scores are −∞ in both, and the running maximum of chunked attention starts there."""
    layer = MultiHeadAttention(width=3, heads=2, key_dim=5, formulation=formulation, key=KEY)
    mask = tf.constant(np.arange(131)[None, None, None, :] < 7)  # 131 keys: two blocks, the second one masked

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, mask=mask)
        return y, tape.gradient(y, x)

    x = np.random.default_rng(0).standard_normal((2, 131, 3)).astype(np.float32)
    assert _find(step, x) is None
    layer.value.kernel.assign_add(tf.fill(layer.value.kernel.shape, 1e38))
    found = _find(step, 10 * x)
    assert (found.layer, found.phase, found.op_type) == ("value", "forward", "MatMul")


def test_what_is_made_of_an_infinity_that_is_meant():
    found = _find(tf.function(lambda x: tf.where(x > 1, x, -np.inf) * tf.nn.relu(x - 2)), np.float32([0, 3]))
    assert found.op_type == "Mul" and (found.output.nan, found.output.rows) == (1, (0,))
    assert [(x.nan, x.inf, x.high) for x in found.inputs] == [(0, 1, 3.0), (0, 0, 1.0)]


def test_inside_of_a_loop():
    class Powers(Module):
        def __call__(self, x):
            _, x = tf.while_loop(lambda i, x: i < 9, lambda i, x: (i + 1, x * x), (0, x))  # powers
            return x

    found = _find(tf.function(Powers()), np.float32([[2.0], [0.5]]))
    assert (found.op_type, found.within, found.output.rows) == ("Mul", ("StatelessWhile, turn 7",), (0,))
    assert found.source == line_of(Powers, "# powers")
    found = _find(_step(Network(Powers())), 1e9 * ROWS[::2])
    assert (found.layer, found.phase, found.within) == ("parts/last", "forward", ("StatelessWhile, turn 2",))


def test_inside_of_a_function_and_of_a_branch():
    inner = tf.function(lambda x: tf.cond(x[0] > 1, lambda: 1.0 / x, lambda: x), autograph=False)
    outer = tf.function(lambda x: inner(x) + 1.0)
    assert _find(outer, np.float32([1, 0, 1])) is None
    found = _find(outer, np.float32([2, 0, 1]))
    assert found.op_type == "RealDiv" and found.output.rows == (1,)
    assert [name.replace("Stateless", "").replace("Stateful", "") for name in found.within] == ["PartitionedCall", "If"]


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_in_every_format(dtype):
    found = _find(tf.function(lambda x: x + x), np.array([dtype.max, 1, 0], dtype.as_numpy_dtype))
    assert (found.output.inf, found.output.dtype, found.output.high) == (1, dtype.name, 2.0)


def test_the_function_does_what_a_call_of_it_does():
    model = Network(Logarithm())
    step, x = _step(model), np.abs(ROWS) + 1
    before = model.first.kernel.numpy()
    step(tf.constant(x))
    expected = model.first.kernel.numpy()
    model.first.kernel.assign(before)
    assert _find(step, x) is None
    np.testing.assert_allclose(model.first.kernel, expected, rtol=1e-6)
    assert (expected != before).all()
