"""Cross-cutting tests: each runs over every entry of the catalog, and the catalog must be complete."""

import functools
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import tensorflow as tf

import tfcore.layers
import tfcore.models
import tfcore.ops
import tfcore.optimizers
from tests.catalog import ENTRIES
from tests.catalog.entry import TOLERANCES, certify, evaluate, relative_error
from tfcore.module import Module


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", ENTRIES)
def test_equals_reference(name, dtype):
    certificate = certify(ENTRIES[name], dtype)
    assert certificate.ok, certificate


@pytest.mark.parametrize("name", ENTRIES)
def test_equal_in_eager_graph_and_xla_mode(name):
    # float64, where the modes may differ by no more than the order of their sums.
    results = {}
    for mode, wrap in (
        ("eager", lambda function: function),
        ("graph", functools.partial(tf.function, autograph=False)),
        ("xla", functools.partial(tf.function, autograph=False, jit_compile=True)),
    ):
        case = ENTRIES[name].case(tf.float64)  # anew: training mode moves statistics
        results[mode] = evaluate(case, wrap(case.ours), [pair[0] for pair in case.variables])
    for mode in ("graph", "xla"):
        for found, expected, tolerance in zip(results[mode], results["eager"], TOLERANCES["float64"], strict=True):
            if expected:
                assert relative_error(zip(found, expected, strict=True)) <= tolerance
            for a, b in zip(found, expected, strict=True):
                if "Dropout" in name:
                    np.testing.assert_array_equal(a == 0, b == 0)


def _public(package):
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for name, member in vars(module).items():
            if not name.startswith("_") and getattr(member, "__module__", None) == module.__name__:
                yield f"{info.name}.{name}", member


def _needs_an_entry(member) -> bool:
    """Functions that return tensors, and modules; not geometry, checks and tables."""
    if inspect.isclass(member):
        return issubclass(member, Module)
    return callable(member) and "Tensor" in str(inspect.signature(member).return_annotation)


@pytest.mark.parametrize("package", [tfcore.ops, tfcore.layers, tfcore.models, tfcore.optimizers])
def test_every_public_op_layer_model_and_optimizer_has_an_entry(package):
    proven = {member for entry in ENTRIES.values() for member in entry.proves}
    missing = [name for name, member in _public(package) if _needs_an_entry(member) and member not in proven]
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
