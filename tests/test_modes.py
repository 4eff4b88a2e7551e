"""Every entry of the catalog in TensorFlow's three modes: eager, as a graph, compiled by XLA."""

import numpy as np
import pytest
import tensorflow as tf

from tests.catalog import ENTRIES
from tests.catalog.entry import TOLERANCES, evaluate, relative_error
from tests.support.modes import MODES


@pytest.mark.parametrize("name", ENTRIES)
def test_equal_in_eager_graph_and_xla_mode(name):
    # float64, where the modes may differ by no more than the order of their sums.
    results = {}
    for mode, wrap in MODES.items():
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
