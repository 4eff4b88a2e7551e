"""`train.py --explain`: the dtypes of every layer, as the traced step has them."""

import json

import pytest
import tensorflow as tf

from loops import recipes
from loops.health.explain import explain
from loops.run.restore import fresh_model, sizes_of
from tests.support.tiny import HALVES, TINY
from tfcore import random
from tfcore.inspect.graph.dtypes import dtype_rows, dtype_table
from tfcore.layers.dense import Dense
from tfcore.module import Module


def _recipe(name, *settings):
    return recipes.get(name).changed([setting.split("=") for setting in (*TINY[name], *settings)])


def _rows(name, precision, *settings):
    return {row.layer: row for row in explain(_recipe(name, f"precision={precision}", *settings))}


def _dtypes(row) -> set[str]:
    return {*row.inputs, *row.variables, *row.computes, *row.outputs}


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_in_float32_everything_is_float32(name):
    rows = _rows(name, "float32")
    for layer, row in rows.items():
        # Adam's powers of β and the diagnostics' sums are float64, over few numbers.
        found = _dtypes(row) - ({"float64"} if layer in ("gradients", "update") else set())
        assert found <= {"float32"}, row
    assert rows["model"].outputs == ["float32"] and rows["logits" if "logits" in rows else "head"].computes


@pytest.mark.parametrize("precision", sorted(HALVES))
@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_in_mixed_precision_sums_are_float32_and_products_are_not(name, precision):
    half, kinds = HALVES[precision], set()
    rows, variables = _rows(name, precision), fresh_model(_recipe(name), sizes_of(_recipe(name))).named_variables()
    for row in rows.values():
        kinds.add(row.kind)
        assert set(row.variables) <= {"float32"}, row
        if row.kind in ("Dense", "Conv1D", "Conv2D") and row.outputs:
            assert row.outputs == [half] and row.variables == ["float32"] and list(row.computes) == [half], row
            assert {"MatMul", "BatchMatMulV2", "Conv2D"} & set(row.computes[half])
            assert ("AddV2" in row.computes[half]) == (f"{row.layer}/bias" in variables), row
        elif row.kind in ("LayerNorm", "BatchNorm"):
            assert row.outputs == [half] and list(row.computes) == ["float32"], row
            computes = set(row.computes["float32"])
            assert {"Mean", "Rsqrt"} <= computes or "FusedBatchNormV3" in computes, row
        elif row.kind in ("MultiHeadAttention", "Attention"):
            assert row.outputs == [half] and set(row.computes) == {half, "float32"}, row
            assert "BatchMatMulV2" in row.computes[half] and "Softmax" not in row.computes[half]
            assert "Softmax" in row.computes["float32"]
        elif row.kind in ("Normalization", "RandomAugmentation"):
            assert row.outputs == [half] and list(row.computes) == ["float32"], row
    assert rows["loss"].computes.keys() == {"float32"} and {"Exp", "Log"} <= set(rows["loss"].computes["float32"])
    assert half in rows["gradients"].computes and half not in rows["update"].computes
    assert "Dense" in kinds and (name == "mlp_forda" or kinds & {"LayerNorm", "BatchNorm", "Conv2D"})


@pytest.mark.parametrize("precision", sorted(HALVES))
@pytest.mark.parametrize("name", sorted(set(recipes.RECIPES) - {"inn_cifar10", "transformer_forda"}))
def test_gradients_are_added_up_in_float32(name, precision):
    """But for short sums: the involution's over the channels of a group, folded attention's over the heads."""
    computes = _rows(name, precision)["gradients"].computes
    assert "Sum" in computes["float32"] and "Sum" not in computes[HALVES[precision]]


def test_a_loops_body_counts():
    """Chunked attention computes inside a while loop, which appears in the graph as one operation."""
    settings = ["image_size=24", "patch_size=2", "formulation=chunked"]  # 144 keys: two blocks
    computes = _rows("vit_cifar100", "mixed_bfloat16", *settings)["blocks/0/attention"].computes
    assert "BatchMatMulV2" in computes["bfloat16"] and "Exp" in computes["float32"]


def test_layers_that_a_step_does_not_call_have_variables_alone():
    rows = _rows("transformer_forda", "mixed_bfloat16", "formulation=folded")
    query = rows["blocks/0/attention/query"]
    assert (query.inputs, query.outputs, query.computes) == ([], [], {}) and query.variables == ["float32"]


def test_it_reads_what_a_layer_does_and_not_what_it_says():
    class Careless(Module):
        def __init__(self):
            super().__init__()
            self.dtype = tf.float32  # which is not true
            self.dense = Dense(inputs=3, units=2, key=random.make_key(0), dtype=tf.float32)
            self.own = tf.Variable(tf.zeros([2], tf.float64))

        def __call__(self, x):
            return tf.exp(tf.cast(self.dense(x), tf.float16)), tf.cast(self.own, tf.float64) + 1.0

    model = Careless()
    step = tf.function(lambda x: model(x)[0])
    *layers, loss, gradients, update = dtype_rows(model, lambda: step.get_concrete_function(tf.zeros([5, 3])).graph)
    outer, dense = layers
    assert outer.kind == "Careless" and outer.variables == ["float64"] and dense.variables == ["float32"]
    assert outer.computes == {"float16": ["Exp"], "float64": ["AddV2"]} and outer.outputs == ["float16", "float64"]
    assert dense.computes == {"float32": ["MatMul", "AddV2"]} and dense.inputs == dense.outputs == ["float32"]
    assert loss.computes == gradients.computes == update.computes == {}


def test_the_script_prints_a_table_and_trains_nothing(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = [part for setting in TINY["vit_cifar100"] for part in ("--set", setting)]
    code, text, error = call(
        "train",
        "vit_cifar100",
        *settings,
        "--precision",
        "mixed_bfloat16",
        "--explain",
        "--json",
        tmp_path / "rows.json",
    )
    assert code == 0 and error == "" and "vit_cifar100 in mixed_bfloat16" in text
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert lines["logits"] == ["logits", "Dense", "bfloat16", "float32", "bfloat16", "(MatMul,", "AddV2)", "bfloat16"]
    assert lines["norm"][:5] == ["norm", "LayerNorm", "bfloat16", "float32", "float32"]
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["layer"] for row in rows} <= lines.keys()
    assert next(row for row in rows if row["layer"] == "logits") == {
        "layer": "logits",
        "kind": "Dense",
        "inputs": ["bfloat16"],
        "variables": ["float32"],
        "computes": {"bfloat16": ["MatMul", "AddV2"]},
        "outputs": ["bfloat16"],
    }
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_what_cannot_be_explained_is_one_line(call):
    code, _, error = call("train", "inn_cifar10", "--explain", "--resume")
    assert code == 2 and error == (
        "error: --explain is of a recipe and its settings, not of a run: leave out --resume\n"
    )
    code, _, error = call("train", "inn_cifar10", "--explain", "--set", "kernel_size=4")
    assert code == 2 and error.startswith("error: kernel_size must be odd") and error.count("\n") == 1


def test_a_long_list_of_operations_is_cut_in_the_table_alone():
    row = explain(recipes.get("inn_cifar10"))[-1]
    names = row.computes["float32"]
    assert len(names) > 6 and f"{', '.join(names[:6])}, {len(names) - 6} more)" in dtype_table([row])
