"""Names of a graph's operations: modules by their path, updates by their variable; what a module says of itself."""

import pytest
import tensorflow as tf

from tests.support.build import build
from tests.support.planted import KEY, Planted
from tfcore.context import intercept
from tfcore.layers.dense import Dense
from tfcore.module import Module, module_scopes
from tfcore.optimizers.optimizer import Adam


def _names(function, *args) -> list[str]:
    graph = tf.function(function, autograph=False).get_concrete_function(*args).graph
    return [op.name for op in graph.get_operations() if op.type not in ("Placeholder", "NoOp", "Identity")]


def test_operations_are_named_after_their_module():
    model = Planted()
    names = _names(model, tf.ones([5, 7]))
    assert all(name.startswith("planted/") for name in names)
    assert sum(name.startswith("planted/parts/0/MatMul") and name.count("/") == 3 for name in names) == 2
    # Without an outer module, a layer is the outermost; below another scope, the names go on from there.
    assert all(name.startswith("dense/") for name in _names(model.parts[0], tf.ones([5, 7])))

    def scoped(x):
        with tf.name_scope("tower"):
            return model(model(x))

    assert all(name.startswith("tower/planted/") for name in _names(scoped, tf.ones([5, 7])))


def test_scopes_know_their_modules_and_end_with_the_call():
    model = Planted()
    graph = tf.function(model, autograph=False).get_concrete_function(tf.ones([5, 7])).graph
    assert module_scopes(graph) == {"planted": "", "planted/parts/0": "parts/0"}

    class Broken(Module):
        def __call__(self, x):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        _names(Broken(), tf.ones([5, 7]))
    assert all(name.startswith("dense/") for name in _names(model.parts[0], tf.ones([5, 7])))  # nothing is left open


def test_a_module_that_no_path_leads_to_is_its_callers():
    hidden = [Dense(inputs=7, units=3, key=KEY)]

    class Keeper(Module):
        def __call__(self, x):
            return hidden[0](x)

    names = _names(Keeper(), tf.ones([5, 7]))
    assert names
    assert all(name.startswith("keeper/") and "dense" not in name for name in names)


def test_watched_calls_are_named_too():
    seen = []

    def watch(callee, call, *args, **kwargs):
        if isinstance(callee, Module):
            seen.append((type(callee).__name__, tf.get_current_name_scope()))
        return call(*args, **kwargs)

    with intercept(watch):
        names = _names(Planted(), tf.ones([5, 7]))
    assert ("Planted", "planted") in seen
    assert seen.count(("Dense", "planted/parts/0")) == 2
    assert names == _names(Planted(), tf.ones([5, 7]))


def test_eager_code_has_no_scopes():
    opened = []
    original = tf.name_scope

    class Watched(original):
        def __init__(self, name):
            opened.append(name)
            super().__init__(name)

    model = Planted()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "name_scope", Watched)
        model(tf.ones([5, 7]))
        assert opened == []
        _names(model, tf.ones([5, 7]))
        assert opened == ["planted/", "planted/parts/0/", "planted/parts/0/"]


def test_names_that_graphs_do_not_take_are_mended():
    class _Hidden(Module):
        def __init__(self):
            super().__init__()
            self.parts = {"a b": Dense(inputs=7, units=3, key=KEY)}

        def __call__(self, x):
            return self.parts["a b"](x)

    assert all(name.startswith("hidden/parts/a_b/") for name in _names(_Hidden(), tf.ones([5, 7])))


def test_updates_are_named_after_their_variable():
    model = Planted()
    optimizer = build(Adam, model.named_trainable_variables())
    gradients = {name: tf.ones_like(variable) for name, variable in model.named_trainable_variables().items()}
    function = tf.function(lambda: optimizer.apply(gradients), autograph=False)
    graph = function.get_concrete_function().graph
    assigned = {op.name.rpartition("/")[0] for op in graph.get_operations() if op.type == "AssignVariableOp"}
    assert assigned == {"", "update/parts/0/kernel", "update/parts/0/bias", "update/gain"}  # "": the count of updates
    assert module_scopes(graph)["update/parts/0/kernel"] == "parts/0"


def test_a_call_by_super_is_no_call_of_its_own():
    class Wider(Dense):
        def __call__(self, x):
            return super().__call__(x) + 1.0

    layer, seen = Wider(inputs=7, units=3, key=KEY), []

    def watch(callee, call, *args, **kwargs):
        seen.append(callee)
        return call(*args, **kwargs)

    with intercept(watch):
        names = _names(layer, tf.ones([5, 7]))
    assert seen == [layer]
    assert names and all(name.startswith("wider/") and "wider/wider" not in name for name in names)


def test_a_repr_shows_the_sizes():
    dense = Dense(inputs=7, units=3, key=KEY)
    assert repr(dense) == "Dense(24 parameters, kernel (7, 3), bias (3,))"

    class Stack(Module):
        def __init__(self):
            super().__init__()
            self.scale, self.layers = tf.Variable(1.0), [dense, {"last": dense}]

    # A layer under two paths is shown under both, and counted once.
    inner = "  layers/0: Dense(24 parameters, kernel (7, 3), bias (3,))"
    lines = ["Stack(25 parameters, scale ())", inner, inner.replace("layers/0", "layers/1/last")]
    assert repr(Stack()).splitlines() == lines
    adam = build(Adam, {str(i): tf.Variable(tf.zeros([5])) for i in range(4)})
    assert repr(adam) == (
        "Adam(42 parameters, learning_rate (), iterations (), m/0 (5,), m/1 (5,), m/2 (5,), m/3 (5,), 4 more)"
    )
