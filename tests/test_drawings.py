"""The pictures that visualize.py makes of a vision transformer and a Perceiver: what is shown, what is refused."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import visualize

from loops import recipes
from loops.data import SIZES, sample
from loops.run import checkpoint
from loops.run.restore import fresh_model
from loops.run.runs import Run
from parts import command_line
from tests.support.pictures import heat_maps, values_of
from tfcore.inspect.graph.attention_weights import attention_maps
from tfcore.layers.attention import Attention, MultiHeadAttention

VIT = {"image_size": 24, "patch_size": 6, "width": 16, "blocks": 3, "heads": 2, "mlp_width": 32, "head_units": (32,)}
PERCEIVER = {"image_size": 16, "patch_size": 2, "width": 16, "latents": 12, "blocks": 1, "heads": 2}
DATASET = sample.images(100, train=200, test=23)


def with_model(name, **sizes):
    """The recipe of that name with other sizes of its model."""
    recipe = recipes.get(name)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **sizes))


@pytest.fixture(autouse=True)
def loads(monkeypatch):
    """Small recipes and data; the list of what was loaded."""
    calls = []
    monkeypatch.setattr("loops.data.load", lambda *arguments, **_: calls.append(arguments) or DATASET)
    for name, sizes in (("vit_cifar100", VIT), ("perceiver_cifar100", PERCEIVER)):
        monkeypatch.setitem(recipes.RECIPES, name, with_model(name, **sizes))
    return calls


@pytest.fixture
def drawn(monkeypatch):
    """File name -> Figure of all that the script saves, which then writes nothing."""
    found = {}
    monkeypatch.setattr(
        visualize.command_line, "save_figure", lambda figure, path: found.__setitem__(path.name, figure)
    )
    return found


def _visualize(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        command_line.run(visualize.main, visualize.parser().parse_args([str(argument) for argument in arguments]))
    return stop.value.code


def _error(capsys, *arguments) -> str:
    assert _visualize(*arguments) == command_line.WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_all_of_both_models(tmp_path, loads):
    assert _visualize("vit_cifar100", "perceiver_cifar100", "--out", tmp_path, "--data", "sample") == 0
    pictures = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*.png")}
    vit, perceiver = "vit_cifar100-fresh", "perceiver_cifar100-fresh"
    assert set(pictures) == {
        *(f"{vit}/{name}.png" for name in ("samples", "patches", "attention", "rollout", "positions")),
        *(f"{perceiver}/{name}.png" for name in ("samples", "patches", "cross-attention", "positions")),
    }
    for path in pictures.values():
        pixels = tf.io.decode_png(path.read_bytes(), channels=3).numpy()
        assert min(pixels.shape[:2]) >= 350 and pixels.std() > 10
        assert len(np.unique(pixels[::5, ::5].reshape(-1, 3), axis=0)) > 50
    assert loads == [("cifar100", "sample")]


def test_only_what_is_asked_for(drawn, loads):
    for recipe, what, names in (
        ("vit_cifar100", "positions", ["positions.png"]),
        ("vit_cifar100", "attention", ["attention.png", "rollout.png"]),
        ("perceiver_cifar100", "attention", ["cross-attention.png"]),
        ("perceiver_cifar100", "patches", ["patches.png"]),
    ):
        drawn.clear()
        assert _visualize(recipe, "--what", what) == 0
        assert list(drawn) == names
        assert bool(loads) == (what != "positions")  # weights alone


def test_attention_is_the_models_on_the_first_test_image(drawn):
    recipe = recipes.get("vit_cifar100")
    model = fresh_model(recipe, SIZES["cifar100"])
    model.tokens.normalization.fit(DATASET.train.inputs[:180])  # the last tenth validates
    expected = attention_maps(model, tf.constant(DATASET.test.inputs[:1].astype(np.float32)), MultiHeadAttention)
    assert _visualize("vit_cifar100", "--what", "attention") == 0
    panels = heat_maps(drawn["attention.png"])
    for panel, (layer, head) in zip(panels, np.ndindex(3, 2), strict=True):
        received = 16 * expected[layer][0, head].numpy().mean(axis=0).reshape(4, 4)
        np.testing.assert_allclose(values_of(panel, 1), received, rtol=1e-5)
    seen = tf.image.resize(DATASET.test.inputs[0].astype(np.float32), (24, 24)).numpy()
    np.testing.assert_allclose(values_of(drawn["attention.png"].axes[0]), seen, atol=0.51)
    assert drawn["attention.png"].axes[0].get_title() == DATASET.class_names[DATASET.test.labels[0]]


def _run_with(folder, model, recipe):
    run = Run.create(folder, recipe)
    run.write_json("environment.json", {"class_names": list(DATASET.class_names), "input_shape": [32, 32, 3]})
    run.best.parent.mkdir(exist_ok=True)
    arrays = {f"model/{name}": variable.numpy() for name, variable in model.named_variables().items()}
    checkpoint.save(run.best, arrays, {})
    return folder


def test_a_runs_pictures_show_its_best_weights(tmp_path, drawn, capsys):
    recipe = recipes.get("perceiver_cifar100")
    model = fresh_model(recipe, SIZES["cifar100"])
    model.tokens.normalization.mean.assign([120.0, 110.0, 100.0])
    model.tokens.normalization.variance.assign([4000.0, 5000.0, 6000.0])
    model.latents.assign(3 * model.latents)
    run = _run_with(tmp_path / "run", model, recipe)
    assert _visualize(run, "--what", "attention") == 0
    expected = attention_maps(model, tf.constant(DATASET.test.inputs[:1].astype(np.float32)), Attention)
    panels = heat_maps(drawn["cross-attention.png"])
    for panel, weights in zip((panels[0], panels[9]), expected, strict=True):
        np.testing.assert_allclose(values_of(panel, 1), 64 * weights[0].numpy().mean(axis=0).reshape(8, 8), rtol=1e-4)
    assert "weights of the best epoch" in drawn["cross-attention.png"].get_suptitle()

    model.blocks[0].attention.query.bias.assign(tf.fill([2, 16], float("nan")))
    run = _run_with(tmp_path / "diverged", model, recipe)
    assert "blocks/0/attention/query/bias is not finite" in _error(capsys, run, "--what", "attention")


def test_fourier_positions_have_no_picture(monkeypatch, drawn, capsys, loads):
    recipe = with_model("perceiver_cifar100", positions="fourier")
    monkeypatch.setitem(recipes.RECIPES, "perceiver_cifar100", recipe)
    line = _error(capsys, "perceiver_cifar100", "--what", "positions")
    assert "perceiver_cifar100-fresh: positions is fourier, so none are learned" in line
    assert _visualize("perceiver_cifar100") == 0
    assert set(drawn) == {"samples.png", "patches.png", "cross-attention.png"}


@pytest.mark.parametrize(
    ("recipe", "what", "has"),
    [
        ("convnet_cifar10", "attention", "samples, curves, parameters"),
        ("inn_cifar10", "patches", "samples, curves, parameters, kernels"),
        ("vit_cifar100", "kernels", "samples, curves, parameters, patches, attention, positions"),
    ],
)
def test_refusals_before_data(recipe, what, has, capsys, loads):
    line = _error(capsys, recipe, "--what", what)
    assert line == f"error: {recipe}-fresh: a {recipe} has no {what} to show; it has {has}"
    assert loads == []
