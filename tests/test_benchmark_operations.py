"""The benchmark of single operations: sizes, memory, growth, tables, pictures, and one real race in tiny sizes."""

import dataclasses
import json

import benchmark
import numpy as np
import pytest
import tensorflow as tf

from parts import benchmark_figures, benchmark_worker
from parts import benchmark_operations as operations
from parts.benchmark_operations import KINDS, Point
from tests.catalog import rivals
from tfcore.layers.attention import MULTI_HEAD_FORMULATIONS
from tfcore.ops import involution, resampling

TINY = {
    "involution": {"sweeps": {"size": (5, 7), "kernel": (3, 5)}, "held": {"batch": 2, "size": 5, "kernel": 3}},
    "attention": {"sweeps": {"length": (11, 13)}, "held": {"batch": 2, "length": 11, "width": 7}},
    "resampling": {"sweeps": {"size": (11, 13)}, "held": {"batch": 2, "size": 11, "source": 7}},
}
SIZES = {"channels": 3, "heads": 3, "key_dim": 5}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    for kind, sizes in TINY.items():
        small = dataclasses.replace(KINDS[kind], sweeps=sizes["sweeps"], held=KINDS[kind].held | SIZES | sizes["held"])
        monkeypatch.setitem(KINDS, kind, small)


def _points(power: float, factor: float, sizes=(2, 4, 8, 16), xla="on") -> list[Point]:
    """Three turns each, the last one slow; at size 2 a cost of its own, that growth at the large end must not see."""
    return [
        Point(size, xla, tuple(factor * size**power * turn + 100 * (size == 2) for turn in (1.0, 1.0, 3.0)))
        for size in sizes
    ]


def test_formulations_are_those_of_tfcore():
    assert set(KINDS["involution"].formulations) == {*involution.FORMULATIONS, "factored"}
    assert set(KINDS["resampling"].formulations) == set(resampling.FORMULATIONS)
    assert set(KINDS["attention"].formulations) == set(MULTI_HEAD_FORMULATIONS) - {"auto", "uniform"}


def test_one_quantity_changes_and_each_size_runs_once():
    held = KINDS["involution"].held
    assert KINDS["involution"].cases() == [held, held | {"size": 7}, held | {"kernel": 5}]


def test_growth_is_that_of_the_largest_sizes():
    assert operations.growth(_points(2.5, 0.1)) == pytest.approx(2.5)
    assert operations.growth([*_points(1, 0.1), Point(32)]) == pytest.approx(1)  # the largest size was left out
    assert operations.growth([Point(2, "on", (1.0,) * 3), Point(4)]) is None


def test_what_needs_too_much_memory_is_left_out(monkeypatch):
    small, large = KINDS["attention"].cases()
    limit = (operations.memory("attention", "direct", small) + operations.memory("attention", "direct", large)) // 2
    monkeypatch.setattr(operations, "LIMIT", limit)
    found = {(c.formulation, c.xla): c.cases for c in operations.contenders("attention", "keras")}
    assert found["direct", "on"] == found["Keras", "off"] == [small]
    assert len(found) == 8
    points = {"direct": [Point(11, "on", (1.0, 1.0, 1.0)), Point(13)]}
    text, entries = operations.table("attention", {"length": points})
    assert "13  direct    left out, needs about" in text and "left_out" in entries[1] and "ms" not in entries[1]


def test_chunked_attention_needs_less_memory_where_there_are_many_keys():
    case = KINDS["attention"].held | {"length": 1021}
    assert 4 * operations.memory("attention", "chunked", case) < operations.memory("attention", "direct", case)


def test_the_table_pairs_turns_and_says_how_cost_grows(monkeypatch):
    sweeps = {"size": (5,), "kernel": (2, 4, 8, 16)}
    monkeypatch.setitem(KINDS, "involution", dataclasses.replace(KINDS["involution"], sweeps=sweeps))
    lines = {"kernel": {"patches": _points(2, 0.25), "Keras": _points(3, 0.5, xla="off")}}
    text, entries = operations.table("involution", lines)
    (entry,) = [e for e in entries if e["formulation"] == "patches" and e["kernel"] == 8]
    assert (entry["ms"], entry["low"], entry["high"], entry["xla"]) == (16, 16, 32, "on")
    assert entry["ratio"] == entry["ratio_low"] == entry["ratio_high"] == 16  # the slow turn was slow for both
    assert entry["growth"] == pytest.approx(2) and (entry["kind"], entry["sweep"]) == ("involution", "kernel")
    assert entry["size"] == 5 and entry["batch"] == 2
    assert "kernel size K, at image size 5" in text and "p: patches 2.00, Keras 3.00" in text


def test_the_picture_names_each_line_and_shows_its_mode():
    lines = {"size": {"chain": _points(2, 0.25), "fused": _points(1, 0.25, xla="off"), "Keras": _points(2, 0.26)}}
    figure = benchmark_figures.scaling("resampling", lines, "a machine")
    (panel,) = figure.axes
    assert panel.get_xscale() == panel.get_yscale() == "log"
    texts = {text.get_text().split()[0]: text for text in panel.texts}
    assert list(texts) == ["chain", "fused", "Keras"] and "n^{2.0}" in texts["chain"].get_text()
    colours = {name: text.get_color() for name, text in texts.items()}
    assert len(set(colours.values())) == 3
    fills = {line.get_color(): line.get_markerfacecolor() for line in panel.lines if line.get_marker() == "o"}
    assert fills[colours["fused"]] == "white" and fills[colours["chain"]] == colours["chain"]
    chain, keras = (texts[name].get_position()[1] for name in ("chain", "Keras"))
    assert keras - chain >= benchmark_figures.APART - 1e-6  # they end almost at the same place


def test_labels_are_pushed_apart_inside_the_panel():
    placed = benchmark_figures.spaced([0.99, 0.5, 0.985, 0.98])
    assert placed[1] == 0.5 and placed[3] < placed[2] < placed[0] <= 0.97
    assert min(np.diff(sorted(placed))) > 0.9 * benchmark_figures.APART


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("side", ["ours", "keras"])
def test_a_step_gives_the_output_and_all_gradients(kind, side, monkeypatch):
    found = []
    traced = tf.function

    def spied(**settings):
        return lambda function: traced(lambda *args: found.append(function(*args)) or found[-1], **settings)

    monkeypatch.setattr(tf, "function", spied)
    (case, *_), formulation = KINDS[kind].cases(), KINDS[kind].formulations[0]
    build = benchmark_worker.our_operation if side == "ours" else lambda kind, _, case: rivals.operation(kind, case)
    forward, weights, compilable = build(kind, formulation, case)
    benchmark_worker.operation_step(kind, case, forward, weights, xla=False)()
    assert compilable == (kind != "resampling" or side == "ours")
    if kind == "resampling":
        assert found[0].shape == (2, 11, 11, 3) and weights == []
        return
    y, gradients = found[0]
    shape = (2, 5, 5, 3) if kind == "involution" else (2, 11, 7)
    assert y.shape == gradients[0].shape == shape
    assert [g.shape for g in gradients[1:]] == [w.shape for w in weights]
    assert len(weights) == {"involution": 6, "attention": 8}[kind]


def test_keras_has_as_many_weights():
    for kind in ("involution", "attention"):
        case = KINDS[kind].held
        (_, ours, _), (_, theirs, _) = (
            benchmark_worker.our_operation(kind, "auto" if kind == "attention" else "shifted", case),
            rivals.operation(kind, case),
        )
        assert sorted(int(tf.size(w)) for w in ours) == sorted(int(tf.size(w)) for w in theirs)


def test_a_race_over_sizes(call, tmp_path, monkeypatch):
    monkeypatch.setattr(operations, "TURN", 0.0)
    numbers, picture = tmp_path / "numbers.json", tmp_path / "picture.png"
    code, text, error = call(
        "benchmark", "--kind", "resampling", "--against", "keras", "--turns", 3, "--json", numbers, "--figure", picture
    )
    assert code == 0, error
    entries = json.loads(numbers.read_text())
    assert {(e["formulation"], e["size"]) for e in entries} == {
        (label, size) for label in ("chain", "fused", "Keras") for size in (11, 13)
    }
    assert all(e["low"] <= e["ms"] <= e["high"] and e["growth"] is not None for e in entries)
    assert all((e["xla"], "ratio" in e) == ("off", False) for e in entries if e["formulation"] == "Keras")
    assert all("ratio" in e for e in entries if e["formulation"] != "Keras")
    assert "Keras was asked for XLA, too, and ran without" in text
    pixels = tf.io.decode_png(picture.read_bytes(), channels=3).numpy()
    assert min(pixels.shape[:2]) > 350 and pixels.mean() > 200 and pixels.std() > 10  # light, and not empty


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inn_cifar10", "--kind", "involution"], "--kind involution times one operation: leave out inn_cifar10"),
        (["--kind", "involution", "--batch-size", "3"], "--batch-size is for recipes"),
        (["--kind", "involution", "--set", "blocks=1"], "--set is for recipes"),
        (["--kind", "involution", "--augmentation", "off"], "--augmentation is for recipes"),
        (["--kind", "involution", "--turns", "2"], "--turns must be at least 3"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(call, arguments, message):
    code, text, error = call("benchmark", *arguments)
    assert (code, text) == (2, "") and error.startswith(f"error: {message}") and error.count("\n") == 1


@pytest.mark.parametrize("augmentation", ["chain", "none"])
def test_keras_runs_in_the_mode_that_its_model_names(augmentation):
    from loops import recipes
    from loops.made_up import made_up_dataset

    small = {"image_size": "8", "width": "8", "latents": "5", "blocks": "1", "heads": "2", "iterations": "1"}
    settings = {"batch_size": "3", "augmentation": augmentation, **small}
    recipe = recipes.get("perceiver_cifar100").changed(settings.items())
    dataset = made_up_dataset(recipe)
    model = rivals.compiled(recipe, dataset, True)
    assert model.jit_compile == (augmentation == "none")
    batch = tf.data.Dataset.from_tensors((dataset.train.inputs.astype("float32"), dataset.train.labels))
    model.make_train_function()
    model.train_function(iter(batch))
    # What was traced, inside of what Keras wraps around it: XLA compiles what bears this mark.
    cells = [cell.cell_contents for cell in model.train_function.__closure__]
    (function,) = [
        cell for cell in cells if hasattr(cell, "get_concrete_function") and cell._list_all_concrete_functions()
    ]
    (concrete,) = function._list_all_concrete_functions()
    marks = [f.attr["_XlaMustCompile"].b for f in concrete.graph.as_graph_def().library.function]
    assert any(marks) == model.jit_compile


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_keras_computes_in_the_recipes_precision(precision):
    import keras

    from loops import recipes
    from loops.made_up import made_up_dataset

    recipe = recipes.get("inn_cifar10").changed([("batch_size", "3"), ("precision", precision)])
    dataset = made_up_dataset(recipe)
    model = rivals.compiled(recipe, dataset, False)
    assert model(dataset.train.inputs.astype("float32")).dtype.name == precision.removeprefix("mixed_")
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16") and keras.config.dtype_policy().name == "float32"
    logs = model.train_on_batch(dataset.train.inputs / np.float32(255), dataset.train.labels, return_dict=True)
    assert np.isfinite(logs["loss"])


def test_the_command_line_names_every_kind():
    assert benchmark.parser().parse_args(["--kind", "attention"]).kind == "attention"
    with pytest.raises(SystemExit):
        benchmark.parser().parse_args(["--kind", "convolution"])
