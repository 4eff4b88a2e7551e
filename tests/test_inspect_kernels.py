"""inspect_kernels.py as a person types it: the report, its JSON and its page; comparisons; bad input in one line."""

import json
from pathlib import Path

import pytest
from inspect_kernels import main, parser

from loops import recipes
from parts.subjects import formulation
from tfcore.inspect.pages.kernel_report import WIDTH

ROOT = Path(__file__).parents[1]
SMALL = ("convnet_cifar10", "--set", "filters=3,5,7", "--set", "units=11", "--batch-size", "2")
TINY = {
    "convnet_cifar10": "filters=3,5,7 units=11",
    "inn_cifar10": "units=7",
    "vit_cifar100": "image_size=12 width=8 blocks=1 heads=2 mlp_width=11 head_units=13,7",
    "perceiver_cifar100": "image_size=8 width=8 latents=5 blocks=1 heads=2",
    "transformer_forda": "blocks=1 heads=1 key_dim=3 head_units=7",
    "cnn_cifar10": "filters=3,5 units=7 dropout=0.5",
}
# The forward pass in closed form: 3 x 3 filters of 3, 5, 7 channels at 32, 16, 8 pixels, without the taps on padding.
FORWARD = sum(2 * 2 * (3 * size - 2) ** 2 * c * f for size, c, f in ((32, 3, 3), (16, 3, 5), (8, 5, 7)))


def _call(*arguments) -> int:
    return main(parser().parse_args(list(map(str, arguments))))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """(the folder of its files, what it printed) of a comparison of two formulations."""
    folder = tmp_path_factory.mktemp("kernels")
    files = ("--json", folder / "k.json", "--html", folder / "k.html")
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *parts, **_: lines.append("".join(parts)))
        assert _call(*SMALL, "--steps", 3, "--compare", "patches", *files) == 0
    return folder, "\n".join(lines)


def test_json_is_the_contract(result):
    kernels = json.loads((result[0] / "k.json").read_text())
    assert all({"name", "layer", "source", "phase", "flops", "bytes", "us"} <= entry.keys() for entry in kernels)
    assert len({entry["name"] for entry in kernels}) == len(kernels)
    assert {entry["phase"] for entry in kernels} == {"forward", "backward", "update", "other"}
    convolutions = [entry for entry in kernels if entry["kind"] == "convolution" and entry["phase"] == "forward"]
    assert sum(entry["flops"] for entry in convolutions) == FORWARD
    assert {entry["layer"] for entry in convolutions} == {f"convolutions/{i}" for i in range(3)}
    for entry in kernels:
        if entry["source"]:
            file, line = entry["source"].split(":")
            assert 0 < int(line) <= len((ROOT / file).read_text().splitlines())
    timed = [entry["us"] for entry in kernels if entry["us"] is not None]
    assert len(timed) > 0.8 * len(kernels) and min(timed) >= 0


def test_the_report_fits_a_screen(result):
    report = result[1].partition("side by side")[0]
    assert "convnet_cifar10, train step, batch 2, float32, compiled by XLA" in report
    for word in ("work ", "memory ", "time ", "ceilings ", "bounds ", "tracing ", "compiler ", "convolutions/0"):
        assert word in report
    assert len(report.splitlines()) <= 50 and max(map(len, report.splitlines())) <= WIDTH


def test_formulations_stand_side_by_side(result):
    table = result[1].partition("side by side, 9 turns each")[2]
    rows = {line[:28].strip(): line[28:].split() for line in table.splitlines()}
    assert "formulation=patches" in table
    for name in ("kernels", "GFLOP", "GB read and written", "peak MiB", "s to compile"):
        own, other, times = (float(cell.replace(",", "")) for cell in rows[name])
        assert own > 0 and times == pytest.approx(other / own, rel=0.2)
    assert float(rows["GB read and written"][2]) > 1.1  # nine copies of every image
    assert len(rows["ms a step, median"]) == 6  # both, and the ratio with its quartiles
    page = (result[0] / "k.html").read_text()
    assert "Side by side" in page and "formulation=patches" in page and "Roofline" in page


@pytest.mark.parametrize("name", TINY)
def test_every_recipe_has_its_report(name, capsys, tmp_path):
    settings = [part for setting in TINY[name].split() for part in ("--set", setting)]
    files = ("--json", tmp_path / "k.json", "--html", tmp_path / "k.html")
    assert _call(name, "--batch-size", 2, *settings, "--steps", 0, *files) == 0
    assert f"{name}, train step, batch 2, float32, compiled by XLA" in capsys.readouterr().out
    kernels = json.loads((tmp_path / "k.json").read_text())
    weight = {True: 0, False: 0}  # FLOPs and bytes, by whether a source line of ours is known
    for entry in kernels:
        weight[bool(entry["source"])] += entry["flops"] + entry["bytes"]
    assert weight[True] > 0.9 * sum(weight.values())
    page = (tmp_path / "k.html").read_text()
    assert all(entry["name"] in page for entry in kernels)


def test_graph_mode_has_times_and_no_counts(capsys, tmp_path):
    path = tmp_path / "ops.json"
    _call(*SMALL, "--xla", "off", "--steps", 3, "--json", path, "--html", tmp_path / "ops.html")
    entries = json.loads(path.read_text())
    assert all(entry["us"] > 0 and entry["flops"] is None for entry in entries)
    found = {(entry["kind"], entry["layer"], entry["phase"]) for entry in entries}
    assert ("Conv2DBackpropFilter", "convolutions/1", "backward") in found
    assert "of TensorFlow's operations ran" in capsys.readouterr().out


def test_an_evaluation_step_that_is_not_run(capsys, tmp_path):
    path = tmp_path / "eval.json"
    _call(*SMALL, "--step", "eval", "--steps", 0, "--json", path, "--html", tmp_path / "eval.html")
    entries = json.loads(path.read_text())
    assert {entry["phase"] for entry in entries} <= {"forward", "other"}
    assert {entry["us"] for entry in entries} == {None}
    assert "µs" not in capsys.readouterr().out


def test_programs_of_others_from_the_shell(capsys, tmp_path):
    dump = ROOT / "tests" / "hlo" / "jax_step.xplane.pb.gz"
    files = ("--json", tmp_path / "k.json", "--html", tmp_path / "k.html")
    assert _call(dump, *files) == 0
    assert "jax_step.xplane.pb.gz, module jit_train_step" in capsys.readouterr().out
    assert _call(ROOT / "tests" / "hlo" / "jax_step.txt.gz", "--against", tmp_path / "k.json", "--html", files[3]) == 0
    assert "kernels: 0 gained" not in (out := capsys.readouterr().out) and "by phase" in out
    assert "by line" in (tmp_path / "k.html").read_text()


FUNCTIONS = """
import tensorflow as tf

def step(x, y):
    return tf.reduce_sum(tf.tanh(x @ x)) + tf.cast(y, tf.float32)

def made():
    return tf.ones([5, 5]), tf.constant(3)

def broken(x):
    raise RuntimeError("not today")
"""


def test_a_function_of_ones_own(capsys, tmp_path):
    file = tmp_path / "mine_of_tests.py"
    file.write_text(FUNCTIONS)
    for arguments in ("f32[5,5] s32[]", "made"):
        assert _call(f"{file}:step", "--args", arguments, "--steps", 0) == 0
        out = capsys.readouterr().out
        assert "of (float32[5,5], int32[]), compiled by XLA" in out and "mine_of_tests.py:5" in out
    for name, arguments, message in (
        ("step", [], "step takes x, y: say them by --args"),
        ("step", ["--args", "f32[5,5]"], "cannot be traced"),
        ("step", ["--args", "f32[5,5"], "neither shapes"),
        ("step", ["--args", "q7[5,5]"], "no dtype"),
        ("broken", ["--args", "f32[5]"], "RuntimeError: not today"),
        ("gone", [], "has no 'gone'; it has broken, made, step"),
    ):
        with pytest.raises(ValueError, match=message):
            _call(f"{file}:{name}", *arguments, "--steps", 0)
    with pytest.raises(ValueError, match="no module 'no_such_module_here' can be imported"):
        _call("no_such_module_here:step")


def test_what_compare_means():
    series, inn = recipes.get("transformer_forda"), recipes.get("inn_cifar10")
    assert formulation(series, "skip") == ("constant_branches", "skip")
    assert formulation(series, "folded") == ("formulation", "folded")
    assert formulation(inn, "patches") == ("formulation", "patches")
    assert formulation(inn, "kernel_size=5") == ("kernel_size", "5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vit_cifar10"], "did you mean 'vit_cifar100'"),
        (["inn_cifar10", "--batch-size", "0"], "batch_size must be at least 1"),
        (["inn_cifar10", "--steps", "-1"], "--steps must be at least 0, got -1"),
        (["inn_cifar10", "--precision", "half"], "precision must be one of float32, mixed_bfloat16"),
        (["inn_cifar10", "--compare", "patches", "--xla", "off"], "leave out --xla off"),
        (["inn_cifar10", "--module", "m"], "--module is for files and folders"),
        (["no/such/file.hlo"], "no such file or folder"),
        (["inn_cifar10", "--against", "patchs"], "formulation must be one of patches, shifted.*, got 'patchs'"),
        (["inn_cifar10", "--compare", "kernel=5"], "did you mean 'kernel_size'"),
        (["inn_cifar10", "--compare", "patchs"], "formulation must be one of patches, shifted.*, got 'patchs'"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_compiled(arguments, message, monkeypatch):
    monkeypatch.setattr("tfcore.inspect.profile.step_profile.inspect_step", None)
    with pytest.raises(ValueError, match=message):
        _call(*arguments)


def test_files_that_cannot_be_written_are_refused_at_once(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(["inn_cifar10", "--html", str(tmp_path / "no" / "page.html")])
    assert stop.value.code == 2 and "cannot be written" in capsys.readouterr().err
