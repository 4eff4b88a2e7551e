"""The benchmark: what it prints and writes of given timings, and one race with real processes."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark import Contender, forms, main, parser, recipe_steps, sides, table

from loops import recipes
from loops.learner import Learner
from loops.made_up import made_up_dataset
from parts.benchmark_markdown import markdown
from parts.benchmark_processes import Process
from tests.catalog.published import published
from tfcore.inspect.profile.ratios import ratios, spread

ROOT = Path(__file__).parents[1]


def _timings() -> dict[Contender, dict]:
    """Keras is faster without XLA, ours with; a slow minute of the machine hits both at the third turn."""
    slow = np.array([1.0, 1.0, 3.0])
    about = {"batch_size": 7, "precision": "float32"}
    common = {"about": about, "compile_seconds": 1.5, "peak_mb": 500.0}
    return {
        Contender("inn_cifar10", "ours", "ours", (), "off"): common | {"ms": list(20 * slow)},
        Contender("inn_cifar10", "ours", "ours", (), "on"): common | {"ms": list(10 * slow), "peak_mb": 400.0},
        Contender("inn_cifar10", "keras", "Keras", (), "off"): common | {"ms": list(50 * slow)},
        Contender("inn_cifar10", "keras", "Keras", (), "on"): common | {"ms": list(60 * slow)},
    }


def test_each_side_counts_at_its_better_mode_and_turns_are_paired():
    text, (entry,) = table("inn_cifar10", _timings())
    assert (entry["ours_xla"], entry["keras_xla"]) == ("on", "off")
    assert (entry["ours_ms"], entry["keras_ms"], entry["ratio"]) == (10, 50, 5)
    assert entry["low"] == entry["high"] == 5  # the slow turn was slow for both
    assert {"recipe", "ours_ms", "keras_ms", "ratio", "low", "high", "ours_peak_mb", "keras_peak_mb"} <= entry.keys()
    assert entry["keras_leaves_xla_off"] is False and "Keras was asked" not in text
    assert "inn_cifar10, batch 7, precision float32" in text and "5.00 (5.00 .. 5.00)" in text and "400 MB" in text


def test_without_a_rival_there_is_no_ratio():
    timings = {contender: found for contender, found in _timings().items() if contender.side == "ours"}
    text, (entry,) = table("inn_cifar10", timings)
    about = {"batch_size": 7, "precision": "float32"}
    measured = {"ours_ms": 10, "ours_low_ms": 10, "ours_high_ms": 20, "ours_xla": "on", "ours_peak_mb": 400.0}
    assert entry == {"recipe": "inn_cifar10", "variant": "ours", **about, **measured}
    assert "Keras" not in text


def test_a_side_that_leaves_xla_off_is_named():
    timings = {c: found for c, found in _timings().items() if (c.side, c.xla) != ("keras", "on")}
    text, (entry,) = table("inn_cifar10", timings)
    assert (entry["keras_xla"], entry["keras_leaves_xla_off"]) == ("off", True)
    assert text.splitlines()[-1].startswith("Keras was asked for XLA, too, and ran without")


def test_fractions_are_of_the_ceilings_and_bytes_of_xlas_kernels():
    ceilings = {"flops_per_second": {"float32": 200e9}, "bytes_per_second": 50e9}
    timings = {contender: found | {"gflop": 0.5, "gbytes": 0.25} for contender, found in _timings().items()}
    text, (entry,) = table("inn_cifar10", timings, ceilings)
    assert entry["of_products"] == 0.5 / 0.010 / 200 and entry["of_memory"] == 0.25 / 0.010 / 50
    assert "0.500 GFLOP, 25% of products, 50% of memory  5.00" in text
    assert "of memory" not in text.splitlines()[-1]  # Keras was faster without XLA


def test_a_half_precision_counts_against_its_own_rate_of_products():
    ceilings = {"flops_per_second": {"float32": 200e9, "bfloat16": 400e9}, "bytes_per_second": 50e9}
    about = {"batch_size": 7, "precision": "mixed_bfloat16"}
    timings = {c: found | {"about": about, "gflop": 0.5, "gbytes": 0.25} for c, found in _timings().items()}
    _, (entry,) = table("inn_cifar10", timings, ceilings)
    assert entry["of_products"] == 0.5 / 0.010 / 400


def test_ctrl_c_reaches_the_one_who_asks_and_no_worker(monkeypatch):
    program = "import json, os; print(json.dumps({'group': os.getpgid(0)}))"
    monkeypatch.setattr("parts.benchmark_processes.WORKER", program)
    with Process(Contender("inn_cifar10", "ours", "ours", (), "off")) as process:
        assert process.ready["group"] == process.popen.pid != os.getpgid(0)


def test_spread_is_median_and_quartiles():
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]) == (3, 2, 4)
    assert ratios([10.0, 20.0, 60.0], [5.0, 5.0, 5.0]) == (4, 3, 8)


def test_variants_are_those_of_the_recipe():
    arguments = parser().parse_args(["transformer_forda", "--variants", "--against", "keras"])
    labels = [label for _, label, _ in sides("transformer_forda", arguments, False)]
    assert labels == ["formulation=direct", "formulation=folded", "constant_branches=skip", "Keras"]
    single = parser().parse_args(["cnn_cifar10", "--variants"])
    assert sides("cnn_cifar10", single, True) == [("ours", "ours", ())]  # `all` takes each recipe as it is
    with pytest.raises(ValueError, match="one formulation only"):
        sides("cnn_cifar10", single, False)


def test_variants_of_a_recipe_without_any_are_refused_before_anything_runs(call, monkeypatch):
    monkeypatch.setattr("benchmark.race", lambda *_, **__: pytest.fail("something ran"))
    code, _, error = call("benchmark", "inn_cifar10", "cnn_cifar10", "--variants")
    assert code == 2 and "cnn_cifar10 has one formulation only" in error


def test_augmentation_and_precision_become_settings():
    def settings(name, *options, everything=False):
        return forms(name, parser().parse_args([name, *options]), everything)

    assert settings("vit_cifar100") == settings("vit_cifar100", "--augmentation", "on") == [[]]
    off = ["batch_size=3", "precision=mixed_bfloat16", "augmentation=none"]
    options = ("--batch-size", "3", "--precision", "mixed_bfloat16", "--augmentation")
    assert settings("vit_cifar100", *options, "off") == [off]
    assert settings("perceiver_cifar100", *options, "both") == [off[:2], off]
    assert settings("inn_cifar10", "--augmentation", "both", everything=True) == [[]]


def test_a_race_of_two_sides(tmp_path):
    path = tmp_path / "speed.json"
    small = ("--set", "blocks=0", "--set", "head_units=5", "--batch-size", 2)
    arguments = ("transformer_forda", "--against", "keras", *small, "--turns", 3, "--json", path)
    command = [sys.executable, "scripts/benchmark.py", *map(str, arguments)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    (entry,) = json.loads(path.read_text())
    assert entry["batch_size"] == 2 and entry["ours_ms"] > 0 and entry["low"] <= entry["ratio"] <= entry["high"]
    assert 50 < entry["ours_peak_mb"] < 5000 and "Keras" in answer.stdout


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cnn_cifar10", {"filters": "3,5", "units": "7", "dropout": "0.5"}),
        (
            "vit_cifar100",
            {"image_size": "12", "width": "8", "blocks": "1", "heads": "2", "mlp_width": "11", "head_units": "13,7"},
        ),
        (
            "perceiver_cifar100",
            {"image_size": "8", "width": "8", "latents": "5", "blocks": "1", "heads": "2", "iterations": "1"},
        ),
        ("mlp_forda", {}),
    ],
)
def test_a_rival_has_as_many_parameters_and_takes_a_step(name, settings):
    recipe = recipes.get(name).changed([("batch_size", "3"), *settings.items()])
    dataset = made_up_dataset(recipe)
    rival = published(recipe, dataset.sizes, dataset.train.inputs)
    ours = Learner(dataclasses.replace(recipe, validation=0.0), dataset).model
    inputs = dataset.train.inputs.astype("float32")
    logs = rival.train_on_batch(inputs, dataset.train.labels, return_dict=True)
    trained = sum(math.prod(variable.shape) for variable in ours.named_trainable_variables().values())
    assert math.isfinite(logs["loss"]) and sum(math.prod(w.shape) for w in rival.trainable_weights) == trained
    if name in ("vit_cifar100", "perceiver_cifar100"):  # in training they augment and drop, differently at each call
        first, second = (rival(inputs, training=True).numpy() for _ in range(2))
        assert abs(first - second).max() > 1e-3


def test_a_recipe_without_a_rival_ends_in_one_line(call):
    arguments = ("mlp_forda", "--against", "keras", "--set", "optimizer=rmsprop", "--batch-size", 2)
    code, _, error = call("benchmark", *arguments)
    assert code == 2 and error == "error: mlp_forda: no counterpart of optimizer rmsprop\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transformer_ford"], "did you mean 'transformer_forda'"),
        (["inn_cifar10", "--turns", "2"], "--turns must be at least 3"),
        (["inn_cifar10", "--set", "kernel=3"], "unknown field 'kernel'"),
        (["inn_cifar10", "--batch-size", "0"], "batch_size must be at least 1"),
        (["inn_cifar10", "--precision", "float8"], "precision must be one of float32, mixed_bfloat16, mixed_float16"),
        (["inn_cifar10", "--augmentation", "off"], "inn_cifar10 has no augmentation"),
        (["vit_cifar100", "--set", "augmentation=none", "--augmentation", "both"], "has no augmentation"),
        (["inn_cifar10", "--figure", "x.png"], "leave it out for recipes"),
        ([], "name recipes, or all, or an operation by --kind"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(arguments, message):
    with pytest.raises(ValueError, match=message):
        main(parser().parse_args(arguments))


def test_one_table_of_both_precisions_with_the_cross_ratio():
    def entry(precision, ours, keras, **more):
        found = {"recipe": "inn_cifar10", "variant": "ours", "batch_size": 256, "precision": precision, **more}
        times = {"ours_ms": ours, "keras_ms": keras, "ratio": keras / ours, "low": keras / ours - 0.1}
        found |= {"ours_xla": "off", "keras_xla": "on"}
        return {**found, **times, "high": keras / ours + 0.1, "ours_peak_mb": 700.0, "keras_peak_mb": 1001.0}

    both = [entry("float32", 20.0, 60.0), entry("mixed_bfloat16", 15.0, 75.0)]
    alone = [entry("float32", 10.0, 12.0, recipe="vit_cifar100", batch_size=4, augmentation="none")]
    text = markdown(both + alone, "Measured now.")
    assert text.startswith("Measured now.\n\n| step | float32: ours / Keras, ms (xla) |") and text.endswith(" |\n")
    header, rule, row, last = text.splitlines()[2:]
    assert len({line.count("|") for line in (header, rule, row, last)}) == 1
    assert row.startswith(
        "| `inn_cifar10`, 256 | 20 (off) / 60 (on) | **3.00** (2.90 .. 3.10) | 700 / 1,001 | 15 (off) / 75 (on)"
    )
    assert row.endswith("| 4.00 |")  # 60 / 15
    assert last.startswith("| `vit_cifar100`, 4, without augmentation | 10 (off) / 12 (on) |") and last.endswith("|  |")
    assert "cross" not in markdown(alone, "") and "bfloat16" not in markdown(alone, "")


def test_both_precisions_are_two_races_of_each_recipe(monkeypatch, tmp_path):
    raced = []
    monkeypatch.setattr("benchmark.race", lambda contenders, turns, flops: raced.append(contenders[0].settings) or {})
    monkeypatch.setattr("benchmark.table", lambda name, timings, ceilings: (name, []))
    arguments = parser().parse_args(
        ["inn_cifar10", "--against", "keras", "--precision", "both", "--markdown", str(tmp_path / "table.md")]
    )
    arguments.turns = 3
    recipe_steps(arguments)
    assert raced == [("precision=float32",), ("precision=mixed_bfloat16",)]
    assert "benchmark.py" in (tmp_path / "table.md").read_text()
