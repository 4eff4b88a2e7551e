"""Cross-cutting tests: each runs over every entry of the catalog, and the catalog must be complete."""

import pytest
import tensorflow as tf

import tfcore.layers
import tfcore.models
import tfcore.ops
import tfcore.optimizers
from tests.catalog import ENTRIES
from tests.catalog.entry import TOLERANCES, certify
from tests.support.public import needs_an_entry, public


def _quick() -> set[str]:
    """The entries of `pytest -m quick`: each op, layer and optimizer, of models those that alone prove a layer."""
    names = {name for name in ENTRIES if not name.startswith("models.")}
    proven = {member for name in names for member in ENTRIES[name].proves}
    for package in (tfcore.ops, tfcore.layers, tfcore.optimizers):
        for _, member in public(package):
            if needs_an_entry(member) and member not in proven:
                # The last one that does: of a model's entries the smallest.
                name = next(name for name in reversed(list(ENTRIES)) if member in ENTRIES[name].proves)
                names.add(name)
                proven |= set(ENTRIES[name].proves)
    return names


QUICK = _quick()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=[pytest.mark.quick] if dtype == "float64" and name in QUICK else [])
        for name in ENTRIES
        for dtype in TOLERANCES
    ],
)
def test_equals_reference(name, dtype):
    certificate = certify(ENTRIES[name], dtype)
    assert certificate.ok, certificate


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
