"""Cross-cutting tests: each runs over every entry of the catalog, and the catalog must be complete."""

import numpy as np
import pytest
import tensorflow as tf

import tfcore.layers
import tfcore.models
import tfcore.ops
import tfcore.optimizers
from tests.catalog import ENTRIES
from tests.catalog.entry import TOLERANCES, certify, evaluate, relative_error
from tests.support.modes import MODES
from tests.support.public import needs_an_entry, public


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", ENTRIES)
def test_equals_reference(name, dtype):
    certificate = certify(ENTRIES[name], dtype)
    assert certificate.ok, certificate


@pytest.mark.parametrize("name", ENTRIES)
def test_equal_in_eager_graph_and_xla_mode(name):
    # float64, where the modes may differ by no more than the order of their sums.
    results = {}
    for mode, wrap in MODES.items():
        case = ENTRIES[name].case(tf.float64)  # anew: training mode moves statistics
        results[mode] = evaluate(case, wrap(case.ours), [pair[0] for pair in case.variables])
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


@pytest.mark.parametrize("package", [tfcore.ops, tfcore.layers, tfcore.models, tfcore.optimizers])
def test_every_public_op_layer_model_and_optimizer_has_an_entry(package):
    proven = {member for entry in ENTRIES.values() for member in entry.proves}
    missing = [name for name, member in public(package) if needs_an_entry(member) and member not in proven]
    assert not missing, f"no entry in tests/catalog proves {missing}"


def test_a_wrong_value_fails_a_certificate():
    entry = ENTRIES["ops.relu"]
    broken = type(entry)(
        entry.name,
        entry.proves,
        lambda dtype: type(entry.case(dtype))(
            lambda x: tf.nn.relu(x) * (1 + 1e-4), tf.nn.relu, entry.case(dtype).inputs
        ),
    )
    assert not certify(broken, "float32").ok
