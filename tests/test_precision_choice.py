"""`--precision auto`, and the hint at it: what is measured, kept in the run folder and said."""

import pytest

from loops.health import precision
from loops.learner import Learner
from loops.run.runs import Run
from tests.support.runs import DATASET, new_run

SECONDS = {"float32": 0.030, "mixed_bfloat16": 0.020}


@pytest.fixture
def faster(monkeypatch):
    """Steps whose seconds are given, not measured: by precision."""
    monkeypatch.setattr(Learner, "step_seconds", lambda learner: SECONDS[learner.recipe.precision])
    return SECONDS


def test_the_faster_precision_is_taken_and_the_ratio_said(tmp_path, faster, monkeypatch):
    recipe, lines = new_run(tmp_path / "run").recipe, []
    chosen, milliseconds = precision.choose(recipe, DATASET, lines.append)
    assert chosen == recipe.changed([("precision", "mixed_bfloat16")])
    assert milliseconds == {"float32": 30.0, "mixed_bfloat16": 20.0}
    assert len(lines) == 1 and "float32 30.0 ms a step" in lines[0] and "1.50 times as fast" in lines[0]
    monkeypatch.setitem(faster, "mixed_bfloat16", 0.040)
    assert precision.choose(recipe, DATASET, lines.append)[0].precision == "float32"
    with pytest.raises(ValueError, match="one device"):
        precision.choose(recipe.changed([("devices", "2")]), DATASET, lines.append)


def test_a_steps_seconds_are_measured(tmp_path):
    recipe = new_run(tmp_path / "run", ("xla", "off")).recipe
    assert Learner(recipe, DATASET).step_seconds() > 0


@pytest.mark.parametrize(("flags", "found"), [("sse avx512_bf16 amx_bf16", "amx_bf16"), ("avx2 avx512f", None)])
def test_a_hint_where_the_cpu_multiplies_bfloat16(tmp_path, monkeypatch, flags, found):
    (tmp_path / "cpuinfo").write_text(f"model name : x\nflags : {flags}\n")
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    recipe = new_run(tmp_path / "run").recipe
    line = precision.hint(recipe)
    assert precision.bfloat16_products() == found
    assert line is None if found is None else (found in line and "--precision auto" in line and "\n" not in line)
    assert precision.hint(recipe.changed([("precision", "mixed_bfloat16")])) is None


def test_a_run_keeps_the_choice_and_a_resumed_one_asks_nobody(call, tmp_path, faster, monkeypatch):
    options = ["inn_cifar10", "--data", "sample", "--out", str(tmp_path / "run"), "--precision", "auto", "--xla", "off"]
    options += ["--set", "train_examples=64", "--batch-size", "32"]
    code, out, error = call("train", *options, "--epochs", "1")
    assert code == 0, error
    assert out.count("precision mixed_bfloat16") == 1 and "hint" not in out
    run = Run.open(tmp_path / "run")
    assert run.recipe.precision == "mixed_bfloat16"
    assert run.read_json("environment.json")["precision_measured_ms"] == {"float32": 30.0, "mixed_bfloat16": 20.0}
    monkeypatch.setattr(precision, "choose", lambda *_, **__: pytest.fail("measured again"))
    code, _, error = call("train", *options, "--epochs", "2", "--resume")
    assert code == 0, error
    assert Run.open(tmp_path / "run").recipe.precision == "mixed_bfloat16"
    assert "precision_measured_ms" in run.read_json("environment.json")
