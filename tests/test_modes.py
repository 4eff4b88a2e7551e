"""Every entry of the catalog in TensorFlow's three modes: eager, as a graph, compiled by XLA."""

import numpy as np
import pytest
import tensorflow as tf

from tests.catalog import ENTRIES
from tests.catalog.entry import TOLERANCES, evaluate, relative_error


class Traced:
    """A function as a graph, and the very same graph compiled by XLA: Python goes over the layers once for both."""

    def graph(self, function):
        """Return the function as a graph, which is traced at its call."""

        def call(*inputs):
            self.concrete = tf.function(function, autograph=False).get_concrete_function(*inputs)
            self.start = [variable.numpy() for variable in self.concrete.variables]
            return self.concrete(*inputs)

        return call

    def xla(self, _):
        """Return the graph that was traced, compiled; its variables are first what they were."""

        def call(*inputs):
            for variable, value in zip(self.concrete.variables, self.start, strict=True):
                variable.assign(value)
            compiled = tf.function(lambda *inputs: self.concrete(*inputs), jit_compile=True, autograph=False)
            return compiled(*inputs)

        return call


@pytest.mark.parametrize("name", ENTRIES)
def test_equal_in_eager_graph_and_xla_mode(name):
    # float64, where the modes may differ by no more than the order of their sums.
    results, traced = {}, Traced()
    for mode, wrap in (("eager", lambda function: function), ("graph", traced.graph), ("xla", traced.xla)):
        if mode != "xla":
            case = ENTRIES[name].case(tf.float64)  # anew: training mode moves statistics
        results[mode] = evaluate(case, case.ours, [pair[0] for pair in case.variables], wrap)
    expected_outputs = results["eager"][0]
    if case.masked:
        assert all(np.any(y == 0) for y in expected_outputs)
    for mode in ("graph", "xla"):
        for found, expected, tolerance in zip(results[mode], results["eager"], TOLERANCES["float64"], strict=True):
            if expected:
                assert relative_error(zip(found, expected, strict=True)) <= tolerance
        if case.masked:
            for y, expected in zip(results[mode][0], expected_outputs, strict=True):
                np.testing.assert_array_equal(y == 0, expected == 0)
