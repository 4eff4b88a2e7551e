"""A run whose numbers go wrong: the step that stops it, and `train.py --debug-numerics`, which names the layer."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from loops import data, recipes
from loops.health.debugging import debug_numerics
from loops.health.numerics import Watch
from loops.run import checkpoint
from loops.run.runs import Run
from loops.train import train
from tests.support.runs import new_run
from tests.support.tiny import shortened, tiny_dataset
from tfcore.precision import LossScale

DATASET = tiny_dataset()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that copies a run of one epoch (three steps), to be gone on with for a second one."""
    whole = {}

    def copy(folder, precision="float32"):
        if precision not in whole:
            run = new_run(tmp_path_factory.mktemp("numerics") / "run", ("epochs", "1"), ("precision", precision))
            train(run, DATASET)
            run.write_json("recipe.json", run.recipe.to_json() | {"epochs": 2})
            whole[precision] = run.folder
        return Run.open(shutil.copytree(whole[precision], folder))

    return copy


def _change(run, **changes):
    """Change arrays of the newest checkpoint: {name with '__' for '/': function of the array}."""
    path, arrays, meta, _ = checkpoint.newest_intact(run.checkpoints)
    for name, change in changes.items():
        name = name.replace("__", "/")
        arrays[name] = change(arrays[name])
    checkpoint.save(path, arrays, meta)
    return path


def _files(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_the_watch_looks_at_each_verdict_once_and_a_step_late(tmp_path):
    run = Run(tmp_path / "a run", recipes.get("inn_cifar10"))
    watch = Watch(run)
    watch.check()
    watch.add(2, 6, tf.constant(True))
    watch.add(2, 7, tf.constant(False))
    with pytest.raises(FloatingPointError) as error:
        watch.add(2, 8, tf.constant(True))
    assert str(error.value).startswith("step 7 (epoch 3): the loss or a gradient became NaN or infinite")
    command = f"python scripts/train.py inn_cifar10 --out '{run.folder}' --debug-numerics"
    assert str(error.value).endswith(f"find the layer by: {command}") and str(run.checkpoints) in str(error.value)
    watch.check()


def test_a_learning_rate_that_is_too_high(tmp_path):
    run = new_run(tmp_path / "run", ("optimizer", "sgd"), ("learning_rate", "1e30"))
    with pytest.raises(FloatingPointError, match=r"step 1 \(epoch 1\)"):
        train(run, DATASET)
    before = _files(run.folder)
    found = debug_numerics(Run.open(run.folder), DATASET)
    assert (found.first, found.last, found.step) == (0, 1, 1)
    assert (found.finding.layer, found.finding.phase) == ("convolutions/1", "forward")
    assert found.finding.op_type == "Conv2D" and found.finding.output.inf > 0 and found.finding.inputs[0].high > 1e25
    assert "a lower learning_rate (it is 1e+30)" in found.hint
    assert _files(run.folder) == before


def test_a_weight_of_the_checkpoint(tmp_path, trained):
    run = trained(tmp_path / "run")
    path = _change(run, model__convolutions__1__bias=lambda x: x + np.inf)
    found = debug_numerics(run, DATASET)
    assert (found.first, found.last, found.step) == (3, 3, 3)
    assert (found.finding.layer, found.finding.variable) == ("convolutions/1", "bias")
    assert found.finding.phase == "forward" and found.finding.output.inf == 5 and str(path) in found.hint


def test_a_slot_of_the_optimizer_spoils_the_update(tmp_path, trained):
    """Loss and gradients of that step are finite: what it leaves is not."""
    run = trained(tmp_path / "run")
    path = _change(run, optimizer__v__hidden__kernel=lambda x: x * np.nan)
    found = debug_numerics(run, DATASET)
    assert (found.step, found.finding.layer, found.finding.phase) == (3, "hidden", "update")
    assert found.finding.variable == "v" and str(path) in found.hint


def test_an_update_that_overflows(tmp_path):
    """Gradients as large as the pixels, which are not divided by 255, times the highest rate that float32 holds."""
    run = new_run(tmp_path / "run", ("optimizer", "sgd"), ("learning_rate", "3e38"), ("pixel_scale", "0.01"))
    found = debug_numerics(run, DATASET)
    assert (found.step, found.finding.phase, found.finding.op_type) == (0, "update", "Mul")
    assert found.finding.layer in ("convolutions/0", "hidden", "logits") and "the update overflows" in found.hint


@pytest.mark.parametrize(
    ("weight", "factor", "layer", "phase", "op_type"),
    [
        ("convolutions__1__kernel", 2e5, "convolutions/1", "forward", "Conv2D"),
        ("logits__kernel", 3e4, "logits", "backward", "MatMul"),
    ],
)
def test_float16_with_the_loss_scale_at_its_floor(
    tmp_path, monkeypatch, weight, factor, layer, phase, op_type, trained
):
    """Above its floor a scale would be halved and the step skipped: no mistake, and nothing to find."""
    run = trained(tmp_path / "run", "mixed_float16")
    _change(run, **{f"model__{weight}": lambda x: x * np.float32(factor)})
    assert debug_numerics(run, DATASET).step is None
    monkeypatch.setattr(LossScale, "floor", 2.0**15)
    found = debug_numerics(run, DATASET)
    assert (found.finding.layer, found.finding.phase, found.finding.op_type) == (layer, phase, op_type)
    assert found.finding.output.dtype == "float16" and found.finding.output.inf and not found.finding.output.nan
    assert "float16 overflows above 65,504: --precision mixed_bfloat16" in found.hint


def test_the_examples_are_those_of_the_data_set(tmp_path):
    """Through a shuffled split, a validation share and the epoch's order."""
    settings = [("epochs", "1"), ("batch_size", "16"), ("xla", "off"), ("head_units", "7"), ("data", "sample")]
    recipe = recipes.get("mlp_forda").changed(settings)
    whole = shortened(data.load("FordA", "sample"), 61, 17)
    for index in (23, 47):
        whole.train.inputs[index] = 3e38  # finite
    found = debug_numerics(Run.create(tmp_path / "run", recipe), whole)
    assert found.finding.layer == "head" and found.finding.inputs[0].high == pytest.approx(3e38)
    assert set(found.examples) < {23, 47} or set(found.examples) == {23, 47}


def test_nothing_is_wrong(tmp_path, trained):
    run = trained(tmp_path / "run")
    lines = []
    found = debug_numerics(run, DATASET, report=lines.append)
    assert (found.first, found.last, found.step, found.finding) == (3, 5, None, None)
    assert lines == ["resumed after epoch 1, step 3 (step-000000003.npz)"]
    found = debug_numerics(Run(run.folder, run.recipe.changed([("epochs", "1")])), DATASET)
    assert (found.first, found.last) == (3, 2)


def test_the_repeated_steps_are_those_of_the_run(tmp_path, monkeypatch, trained):
    """To the bit: the weights before the step that goes wrong are those with which the run went into it."""
    whole = new_run(tmp_path / "whole", ("epochs", "2"), ("keep_checkpoints", "9"), ("checkpoint_steps", "1"))
    train(whole, DATASET)
    run = trained(tmp_path / "run")
    seen = []
    capture = checkpoint.capture
    monkeypatch.setattr(checkpoint, "capture", lambda parts: seen.append(capture(parts)) or seen[-1])
    debug_numerics(run, DATASET)
    assert len(seen) == 4
    for step, arrays in zip((4, 5), seen[1:], strict=False):
        expected, _ = checkpoint.load(checkpoint.step_path(whole.checkpoints, step))
        for name, value in expected.items():
            np.testing.assert_array_equal(arrays[name], value, name)


@pytest.fixture
def call(call, monkeypatch):
    """The scripts, on a tiny set."""
    monkeypatch.setattr(data, "load", lambda *_, **__: DATASET)
    return call


def test_the_script_prints_what_it_finds(call, tmp_path, trained):
    run = trained(tmp_path / "run")
    code, text, _ = call("train", "convnet_cifar10", "--out", run.folder, "--debug-numerics")
    assert code == 0 and text.splitlines()[-1] == (
        "steps 3 to 5: loss, gradients and weights stay finite to the end of the epoch"
    )
    _change(run, model__logits__bias=lambda x: x * np.nan)
    file = tmp_path / "found.json"
    code, text, _ = call("train", "convnet_cifar10", "--out", run.folder, "--debug-numerics", "--json", file)
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if line.startswith("  "))
    assert code == 0 and "step 3 repeated: numbers go wrong in step 3" in text
    assert (
        lines["layer"] == "logits, forward" and lines["operation"] == "ReadVariableOp" and lines["variable"] == "bias"
    )
    assert lines["tensor"] == "float32 (10): 10 NaN, no finite number" and "checkpoint" in lines["try"]
    found = json.loads(file.read_text())
    assert found["step"] == 3 and found["finding"]["layer"] == "logits" and found["finding"]["output"]["nan"] == 10


def test_refusals(call, tmp_path):
    run = new_run(tmp_path / "run")
    for arguments, message in (
        (["--resume"], "leave out --resume and all settings"),
        (["--epochs", "3"], "leave out --resume and all settings"),
        (["--set", "filters=2,3,5"], "leave out --resume and all settings"),
    ):
        code, _, error = call("train", "convnet_cifar10", "--out", run.folder, "--debug-numerics", *arguments)
        assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1
    code, _, error = call("train", "convnet_cifar10", "--out", tmp_path / "none", "--debug-numerics")
    assert code == 2 and "no run there (no recipe.json)" in error and error.count("\n") == 1
    code, _, error = call("train", "inn_cifar10", "--out", run.folder, "--debug-numerics")
    assert code == 2 and "holds a run of convnet_cifar10, not of inn_cifar10" in error


def test_where_only_the_compiled_step_goes_wrong(tmp_path, monkeypatch, trained):
    run = trained(tmp_path / "run")
    monkeypatch.setattr("loops.health.debugging.first_nonfinite", lambda *_: None)
    _change(run, model__logits__bias=lambda x: x * np.nan)
    found = debug_numerics(run, DATASET)
    assert found.step == 3 and found.finding is None and "the compiled step rounds otherwise" in found.hint
    assert dataclasses.asdict(found)["examples"] == ()
