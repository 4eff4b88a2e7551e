"""Watching and changing calls: modules, activations, order, ends, and the names that a pass gives its calls."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from tests.support.build import build
from tfcore import random
from tfcore.context import Share, intercept, share_of_batch
from tfcore.inspect.graph.calls import watch
from tfcore.layers.dense import Dense
from tfcore.layers.feedforward import Mlp
from tfcore.models.perceiver import Perceiver
from tfcore.models.vit import VisionTransformer
from tfcore.ops import activations

KEY = random.make_key(0)


def _dense():
    return Dense(inputs=3, units=2, key=KEY)


def test_an_interceptor_sees_arguments_and_may_change_the_result():
    dense, x, seen = _dense(), tf.ones([5, 3]), []

    def double(callee, call, *args, **kwargs):
        seen.append((callee, args[0]))
        return 2 * call(*args, **kwargs)

    plain = dense(x)
    with intercept(double):
        np.testing.assert_array_equal(dense(x), 2 * plain)
    assert len(seen) == 1 and seen[0][0] is dense and seen[0][1] is x
    np.testing.assert_array_equal(dense(x), plain)  # closed


@pytest.mark.parametrize("name", ["relu", "gelu", "sigmoid", "tanh", "leaky_relu", "prelu"])
def test_activations_are_intercepted(name):
    function = getattr(activations, name)
    arguments = (0.1,) if name in ("leaky_relu", "prelu") else ()
    seen = []
    with intercept(lambda callee, call, *args, **kwargs: seen.append(callee.__name__) or call(*args, **kwargs)):
        function(tf.constant([-1.0, 2.0]), *arguments)
    assert seen == [name]


def test_the_latest_interceptor_is_the_outermost_and_inner_calls_are_seen():
    order = []

    def note(text):
        def function(callee, call, *args, **kwargs):
            order.append((text, type(callee).__name__ if callable(callee) else callee))
            return call(*args, **kwargs)

        return function

    mlp = Mlp(inputs=3, units=(2,), dropout=0.0, site=0, key=KEY)
    with intercept(note("first")), intercept(note("second")):
        mlp(tf.ones([1, 3]))
    assert [text for text, _ in order] == ["second", "first"] * 4  # Mlp, Dense, gelu, Dropout
    assert [name for _, name in order[::2]] == ["Mlp", "Dense", "function", "Dropout"]


def test_an_error_closes_the_interceptor():
    dense = _dense()

    def fail(callee, call, *args, **kwargs):
        raise KeyError("planned")

    with pytest.raises(KeyError), intercept(fail):
        dense(tf.ones([1, 3]))
    dense(tf.ones([1, 3]))


def test_in_a_graph_it_acts_while_tracing():
    dense, count = _dense(), []

    @tf.function
    def run(x):
        return dense(x)

    def zero(callee, call, *args, **kwargs):
        count.append(1)
        return tf.zeros_like(call(*args, **kwargs))

    with intercept(zero):
        assert not np.any(run(tf.ones([1, 3])))
    assert not np.any(run(tf.ones([1, 3]))) and count == [1]


def _names(model, *inputs):
    found = []
    with watch(model, lambda call: found.append((call.name, call.path, call.parents)) or call.proceed()):
        model(*inputs)
    return found


def test_calls_bear_paths_and_activations_what_they_are_applied_to():
    settings = {"classes": 3, "image_size": 8, "patch_size": 4, "width": 4, "blocks": 2, "heads": 2, "mlp_width": 5}
    model = build(VisionTransformer, key=KEY, head_units=(6,), formulation="direct", **settings)
    names = [name for name, *_ in _names(model, tf.ones([2, 8, 8, 3]))]
    assert names[0] == "model" and len(set(names)) == len(names)
    assert {"blocks/1/attention/query", "tokens/patches", "gelu(blocks/0/feed_forward/dense/0)"} <= set(names)
    parents = {name: parents for name, _, parents in _names(model, tf.ones([2, 8, 8, 3]))}
    assert parents["blocks/1/attention/query"] == ("model", "blocks/1", "blocks/1/attention")


def test_repeated_calls_are_numbered():
    settings = {"classes": 3, "image_size": 4, "patch_size": 2, "width": 4, "latents": 3, "blocks": 1, "heads": 1}
    model = build(Perceiver, key=KEY, iterations=2, **settings)
    calls = [(name, path) for name, path, _ in _names(model, tf.ones([2, 4, 4, 3]))]
    assert [name for name, path in calls if path == "blocks/0"] == ["blocks/0", "blocks/0 #2"]
    assert [name for name, path in calls if path == "cross_attention/keys"] == ["cross_attention/keys"]


def test_a_watcher_knows_who_made_a_tensor_and_may_look_aside():
    mlp = Mlp(inputs=3, units=(2,), dropout=0.0, site=0, key=KEY)
    makers, seen = {}, []

    def handler(call):
        makers[call.name] = call.makers(call.args[0])
        seen.append(call.name)
        with call.unwatched():
            mlp.dense[0](tf.ones([1, 3]))
        return call.proceed()

    with watch(mlp, handler):
        mlp(tf.ones([1, 3]))
    assert makers["gelu(dense/0)"] == ["dense/0"] and makers["model"] == []
    assert seen == ["model", "dense/0", "gelu(dense/0)", "dropout/0"]


def test_replicas_do_not_see_each_others_calls():
    """Their threads take turns in the middle of a layer, with what each has opened still open."""
    seen = {"own": [], "all": []}

    def keep(name):
        return lambda callee, call, *args, **kwargs: seen[name].append(threading.get_ident()) or call(*args, **kwargs)

    def other_replica():
        with share_of_batch(Share(3, 2, 5)):
            activations.relu(tf.ones([2]))

    with intercept(keep("all")), share_of_batch(Share(0, 3, 5)), intercept(keep("own")):
        activations.relu(tf.ones([2]))
        thread = threading.Thread(target=other_replica)
        thread.start()
        thread.join()
    assert seen["own"] == [threading.get_ident()] and len(seen["all"]) == 2
