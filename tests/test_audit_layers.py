"""The audit of layers: constant, silent, saturated, attention that looks at all or at one, range of float16."""

import pytest
import tensorflow as tf

from tests.support.audited import KEY, Network, Relu, checked_audit, found, make_batches
from tfcore.layers.activation import Activation
from tfcore.layers.attention import MultiHeadAttention
from tfcore.layers.embedding import Embedding
from tfcore.layers.normalization import LayerNorm
from tfcore.module import Module


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_saturated(name):
    model = Network(Activation(name))
    assert checked_audit(model, make_batches(7)).findings == []
    model.first.bias.assign(tf.fill([5], -9.0))
    assert list(found(checked_audit(model, make_batches(7)), "saturated")) == [f"{name}(first)"]


def _attention(formulation):
    middle = MultiHeadAttention(width=5, heads=2, key_dim=7, formulation=formulation, key=KEY)
    return Network(middle)


@pytest.mark.parametrize("formulation", ["direct", "chunked", "folded"])
def test_attention_that_looks_at_all_or_at_one(formulation):
    model = _attention(formulation)
    assert checked_audit(model, make_batches(11, 7)).findings == []
    kernel = model.middle.query.kernel
    kernel.assign(tf.zeros_like(kernel))
    result = checked_audit(model, make_batches(11, 7))
    assert list(found(result, "uniform attention")) == ["middle"]
    first = "middle" if formulation == "folded" else "middle/query"  # the first that gives the same everywhere
    assert list(found(result, "constant")) == [first]
    assert result.causes()["middle/query/kernel"][0].path == "middle/key/kernel"
    model = _attention(formulation)
    model.middle.query.kernel.assign(1e5 * model.middle.query.kernel)
    model.middle.query.bias.assign(tf.zeros_like(model.middle.query.bias))
    assert list(found(checked_audit(model, make_batches(11, 7)), "one-hot attention")) == ["middle"]


def test_float16_would_overflow():
    model = Network(Relu())
    model.first.kernel.assign(1e6 * model.first.kernel)
    model.last.kernel.assign(1e-6 * model.last.kernel)
    assert set(found(checked_audit(model, make_batches(7)), "overflow")) == {"first", "middle", "relu(first)"}
    model.first.kernel.assign(1e-16 * model.first.kernel)
    result = checked_audit(model, make_batches(7))
    assert {"first", "model"} <= {note.path for note in result.notes if note.kind == "underflow"}
    assert result.findings == []


def test_only_the_first_of_constant_layers_is_accused_and_no_table_of_positions():
    class Blind(Module):
        def __call__(self, x):
            return tf.zeros_like(x) + tf.range(x.shape[1], dtype=tf.float32)[:, None]

    model = Network(Blind())
    model.table = Embedding(count=11, width=7, key=KEY)
    call = Network.__call__

    class WithTable(Network):
        def __call__(self, x, *, training=False, key=None):
            return call(self, x + self.table())

    model.__class__ = WithTable
    result = checked_audit(model, make_batches(11, 7))
    (table,) = [layer for layer in result.layers if layer.name == "table"]
    assert table.shape == (11, 7) and table.lost == ()
    assert set(found(result, "constant")) == {"middle"}
    assert "over the batch and the channels, though" in found(result, "constant")["middle"]


def test_a_block_that_is_constant_because_of_its_part_is_not_accused_too():
    class Inner(Module):
        def __init__(self):
            super().__init__()
            self.norm = LayerNorm(width=1)

        def __call__(self, x):
            return self.norm(x)

    assert list(found(checked_audit(Network(Inner(), width=1), make_batches(7)), "constant")) == ["middle/norm"]
