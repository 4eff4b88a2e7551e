"""visualize.py and restored models: what is shown, where it is written, what is refused."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import visualize

import tfcore.inspect
from loops import recipes
from loops.learner import splits
from loops.run import checkpoint
from loops.run.restore import fresh_model, restored_model
from loops.run.runs import Run
from loops.train import train
from parts import command_line
from tests.support.tiny import tiny_dataset
from tfcore.inspect.figures import figures
from tfcore.models.metaformer import MetaFormerConfig

DATASET = tiny_dataset()
SCRIPT = Path(__file__).parents[1] / "scripts" / "visualize.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two trained runs, `inn` and `convnet`; tests only read it."""
    folder = tmp_path_factory.mktemp("runs")
    settings = [("data", "sample"), ("epochs", "2"), ("batch_size", "32"), ("xla", "off")]
    for name in ("inn", "convnet"):
        train(Run.create(folder / name, recipes.get(f"{name}_cifar10").changed(settings)), DATASET)
    return folder


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    """Every data set is the tiny one; the calls are recorded."""
    calls = []
    monkeypatch.setattr("loops.data.load", lambda *arguments, **_: calls.append(arguments) or DATASET)
    return calls


@pytest.fixture
def drawn(monkeypatch):
    """File name -> Figure of all that the script saves, which then writes nothing."""
    found = {}
    monkeypatch.setattr(
        visualize.command_line, "save_figure", lambda figure, path: found.__setitem__(path.name, figure)
    )
    return found


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in ("matplotlib", "matplotlib.axes"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "tfcore.inspect.figures.figures")
    monkeypatch.delattr(tfcore.inspect, "figures")


def _visualize(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        command_line.run(visualize.main, visualize.parser().parse_args([str(argument) for argument in arguments]))
    return stop.value.code


def _check_picture(path, *, width, height):
    pixels = tf.io.decode_png(path.read_bytes(), channels=3).numpy()
    assert pixels.shape[0] >= height and pixels.shape[1] >= width
    assert pixels.std() > 10 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


# The script.


def test_all_of_a_run(trained, tmp_path, capsys):
    shutil.copytree(trained / "inn", tmp_path / "inn")
    assert _visualize(tmp_path / "inn", "--json", tmp_path / "result.json") == 0
    output = capsys.readouterr().out
    paths = {name: tmp_path / "inn" / "figures" / f"{name}.png" for name in ("curves", "samples", "kernels")}
    assert set((tmp_path / "inn" / "figures").iterdir()) == set(paths.values())
    _check_picture(paths["samples"], width=800, height=900)
    _check_picture(paths["curves"], width=400, height=500)
    _check_picture(paths["kernels"], width=600, height=1500)
    assert output.splitlines()[-3:] == [str(path) for path in paths.values()]
    assert "inn: inn_cifar10\n" in output and "13,074" in output
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "figures": [str(path) for path in paths.values()],
        "parameters": {"inn": {"total": 13_080, "trained": 13_074}},
    }


def test_several_runs_and_a_recipe(trained, tmp_path, small_data):
    assert _visualize(trained / "inn", trained / "convnet", "inn_cifar10", "--data", "sample", "--out", tmp_path) == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")) == [
        "convnet/samples.png",
        "curves-side-by-side.png",
        "inn/kernels.png",
        "inn/samples.png",
        "inn_cifar10-fresh/kernels.png",
        "inn_cifar10-fresh/samples.png",
    ]
    _check_picture(tmp_path / "curves-side-by-side.png", width=800, height=500)
    assert small_data == [("cifar10", "sample")]  # read once


def test_default_folders(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        shutil.copytree(trained / "inn", tmp_path / name)
    assert _visualize("convnet_cifar10", "--what", "samples") == 0
    assert _visualize("second", "first", "--what", "curves") == 0
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*.png"))] == [
        "runs/convnet_cifar10-figures/samples.png",
        "second/figures/curves-side-by-side.png",
    ]


def test_runs_of_one_name_are_told_apart(trained, tmp_path, drawn):
    for place in ("a", "b"):
        shutil.copytree(trained / "inn", tmp_path / place / "inn")
    assert _visualize(tmp_path / "a" / "inn", tmp_path / "b" / "inn", "--what", "curves") == 0
    titles = [panel.get_title() for panel in drawn["curves-side-by-side.png"].axes]
    assert {"a/inn", "b/inn"} <= set(titles)


def test_samples_are_train_images_picked_by_the_seed(tmp_path, drawn, monkeypatch):
    def shown(seed):
        recipe = recipes.get("inn_cifar10").changed([("seed", str(seed))])
        monkeypatch.setitem(recipes.RECIPES, "inn_cifar10", recipe)
        assert _visualize("inn_cifar10", "--what", "samples") == 0
        panels = drawn["samples.png"].axes
        return [(panel.images[0].get_array().data, panel.get_title()) for panel in panels]

    pictures = shown(-3)
    assert len(pictures) == 25
    indices = []
    for image, title in pictures:
        (index,) = np.flatnonzero((DATASET.train.inputs == image).all(axis=(1, 2, 3)))
        assert title == DATASET.class_names[DATASET.train.labels[index]]
        indices.append(index)
    assert len(set(indices)) == 25
    assert [title for _, title in shown(-3)] == [title for _, title in pictures]
    assert [title for _, title in shown(4)] != [title for _, title in pictures]


def test_kernels_are_those_of_the_best_weights(trained, drawn):
    assert _visualize(trained / "inn", "--what", "kernels") == 0
    shown = [panel.images[0].get_array().data for panel in drawn["kernels.png"].axes if panel.images]
    images, first_maps = shown[:10], shown[10:20]
    np.testing.assert_array_equal(images, DATASET.test.inputs[:10])

    arrays, _ = checkpoint.load(trained / "inn" / "checkpoints" / "best.npz")
    weights = {name.removeprefix("model/involutions/0/"): value for name, value in arrays.items()}
    x = DATASET.test.inputs[:10].astype(np.float64) / 255
    hidden = x @ weights["reduce/kernel"][0, 0] + weights["reduce/bias"]
    hidden = (hidden - weights["norm/moving_mean"]) / np.sqrt(weights["norm/moving_variance"] + 1e-3)
    hidden = np.maximum(hidden * weights["norm/gamma"] + weights["norm/beta"], 0)
    kernel = hidden @ weights["expand/kernel"][0, 0] + weights["expand/bias"]  # (10, 32, 32, 9)
    np.testing.assert_allclose(first_maps, kernel.sum(axis=-1), rtol=1e-4, atol=1e-5)
    assert np.std(kernel) > 1e-3


def test_kernels_of_a_metaformer_are_those_of_all_its_blocks(drawn, monkeypatch, capsys):
    sizes = {"widths": (5, 7), "blocks": (2, 1), "mlp_widths": (3, 3)}
    involutions = {"kernel_sizes": (3, 5), "groups": (5, 7), "bottlenecks": (2, 2)}
    small = dataclasses.replace(recipes.get("inn_cifar10_best"), model=MetaFormerConfig(**sizes, **involutions))
    monkeypatch.setitem(recipes.RECIPES, "inn_cifar10_best", small)
    assert _visualize("inn_cifar10_best", "--what", "kernels") == 0
    shown = [panel.images[0].get_array().data for panel in drawn["kernels.png"].axes if panel.images]
    images, *maps = (shown[start : start + 10] for start in range(0, 40, 10))
    assert [heat[0].shape for heat in maps] == [(32, 32), (32, 32), (16, 16)]

    model = fresh_model(small, DATASET.sizes)
    small.fit_statistics(model, splits(small, DATASET)[0].inputs)
    x = model.stem(model.normalization(tf.constant(np.stack(images), tf.float32)))
    for block, heat in zip(model.blocks[:2], maps[:2], strict=True):
        _, kernel = block.mixer(block.norm(x))  # (10, 32, 32, 9, 1, 5)
        np.testing.assert_allclose(heat, np.sum(kernel, axis=(3, 4)).mean(axis=-1), rtol=1e-4, atol=1e-5)
        x = block(x)

    without = dataclasses.replace(small, model=MetaFormerConfig(mixer="none"))
    monkeypatch.setitem(recipes.RECIPES, "inn_cifar10_best", without)
    assert "no involution mixes its positions" in _error(capsys, "inn_cifar10_best", "--what", "kernels")


def test_parameters_need_neither_data_nor_matplotlib(without_matplotlib, small_data, capsys):
    assert _visualize("inn_cifar10", "convnet_cifar10", "--what", "parameters") == 0
    output = capsys.readouterr().out
    assert output.index("inn_cifar10\n") < output.index("13,080") < output.index("convnet_cifar10\n")
    assert output.index("convnet_cifar10\n") < output.index("319,178")
    assert small_data == []


def _error(capsys, *arguments) -> str:
    """The one line in which the script ends."""
    assert _visualize(*arguments) == command_line.WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_without_matplotlib(without_matplotlib, trained, capsys):
    assert "pip install -e '.[plots]'" in _error(capsys, trained / "inn", "--what", "curves")


def test_refusals(trained, tmp_path, capsys, small_data):
    assert "did you mean 'inn_cifar10'?" in _error(capsys, "in_cifar10")
    assert "no run there (no recipe.json)" in _error(capsys, tmp_path)
    assert "convnet: a convnet_cifar10 has no kernels" in _error(capsys, trained / "convnet", "--what", "kernels")
    assert "is a recipe and has no curves" in _error(capsys, "inn_cifar10", trained / "inn", "--what", "curves")
    assert small_data == []  # refused before a download
    assert "named twice" in _error(capsys, trained / "inn", trained / "convnet" / ".." / "inn")
    (tmp_path / "file").touch()
    assert "name another folder by --out" in _error(capsys, trained / "inn", "--out", tmp_path / "file" / "deeper")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_picture_that_cannot_be_written_leaves_the_old_one(trained, tmp_path, capsys, monkeypatch):
    (tmp_path / "curves.png").write_text("old")

    def full(self, file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures.Figure, "savefig", full)
    line = _error(capsys, trained / "inn", "--what", "curves", "--out", tmp_path)
    assert f"cannot write {tmp_path / 'curves.png'}: No space left on device" in line
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"curves.png": "old"}


def test_damaged_runs(trained, tmp_path, capsys):
    run = shutil.copytree(trained / "inn", tmp_path / "inn")
    (run / "checkpoints" / "best.npz").write_bytes((run / "checkpoints" / "best.npz").read_bytes()[:-100])
    assert "best.npz: damaged" in _error(capsys, run, "--what", "kernels")
    (run / "checkpoints" / "best.npz").unlink()
    assert "no epoch of this run has ended" in _error(capsys, run, "--what", "kernels")
    (run / "history.csv").unlink()
    assert "inn: no epoch has ended" in _error(capsys, run, "--what", "curves")
    (run / "recipe.json").write_text('{"name": "inn_cif')
    assert "recipe.json: damaged" in _error(capsys, run)


def test_help_answers_without_tensorflow():
    answer = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0 and answer.stderr == ""
    assert "examples:" in answer.stdout and "--what {samples,curves,parameters,kernels,patches," in answer.stdout


# Restored models.


def test_restored_model(trained, tmp_path):
    run = Run.open(shutil.copytree(trained / "inn", tmp_path / "inn"))
    last, arrays, meta, _ = checkpoint.newest_intact(run.checkpoints)
    best = {name: value + np.ones_like(value) for name, value in arrays.items()}
    checkpoint.save(run.best, best, meta)
    for model, expected in ((restored_model(run), best), (restored_model(run, last), arrays)):
        for path, variable in model.named_variables().items():
            np.testing.assert_array_equal(variable.numpy(), expected[f"model/{path}"], path)
    run.write_json("environment.json", run.read_json("environment.json") | {"class_names": list("abcdefg")})
    with pytest.raises(checkpoint.CheckpointError, match="another model"):
        restored_model(run)
    with pytest.raises(checkpoint.CheckpointError, match="another model"):
        restored_model(run, trained / "convnet" / "checkpoints" / "best.npz")
