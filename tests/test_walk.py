"""A walk: its tensors against computations by hand, its gradients against finite differences, bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from loops import recipes
from loops.recipes.recipe import Recipe
from loops.run.restore import fresh_model, sizes_of
from loops.run.runs import Run
from loops.train import train
from tests.support.tiny import TINY, tiny_dataset
from tfcore.context import intercept
from tfcore.inspect.pages.walk_page import walk_html
from tfcore.inspect.walk.layers import walk_layers
from tfcore.inspect.walk.stops import Walk
from tfcore.inspect.walk.walk import walk
from tfcore.ops.losses import cross_entropy_from_logits

NAMES = sorted(TINY)
DATASET = tiny_dataset()
PLACES = 10


def _recipe(name: str) -> Recipe:
    return recipes.get(name).changed([tuple(text.split("=")) for text in TINY[name]])


def _model(name: str, monkeypatch, dtype=tf.float32):
    monkeypatch.setattr(Recipe, "compute_dtype", property(lambda self: dtype))
    recipe = _recipe(name)
    sizes = sizes_of(recipe)
    model = fresh_model(recipe, sizes)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:  # nothing is 0, where a ReLU has no gradient to compare with
        variable.assign_add(tf.constant(rng.uniform(-0.05, 0.05, variable.shape), variable.dtype))
    x = rng.uniform(0, 255 if "vit" in name or "perceiver" in name else 1, (1, *sizes.input_shape))
    return model, tf.constant(x, dtype), tf.constant([1])


@pytest.mark.parametrize("name", NAMES)
def test_recording_changes_no_bit(name, monkeypatch):
    model, x, y = _model(name, monkeypatch)
    before = {path: variable.numpy() for path, variable in model.named_variables().items()}
    plain = model(x, training=False)
    found = walk(model, x, y)
    np.testing.assert_array_equal(found.outputs, plain[0])
    assert found.loss == float(cross_entropy_from_logits(y, plain)[0])
    for path, variable in model.named_variables().items():
        np.testing.assert_array_equal(variable.numpy(), before[path], path)
    assert len({stop.name for stop in found.stops}) == len(found.stops)
    assert [stop.name for stop in found.stops][:1] == ["input"] and found.stops[-1].name == "loss"
    for stop in found.stops:
        assert len(stop.axes) == stop.value.ndim, stop.name
        assert stop.rule is None or all(found[source] for source in stop.rule.inputs)
        assert stop.kind in ("input", "between", "step") or (stop.formula and stop.source), stop.name
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences(name, monkeypatch):
    """Of modules' and activations' outputs, moved on their way, and of the steps inside by the layer's own output."""
    model, x, y = _model(name, monkeypatch, tf.float64)
    found = walk(model, x, y)
    rng = np.random.default_rng(1)
    stops = [stop for stop in found.stops if stop.kind in ("module", "activation") and stop.gradient is not None]
    with_gradient = [stop for stop in stops if np.any(stop.gradient)]
    assert len(with_gradient) >= 3
    for _ in range(PLACES):
        stop = with_gradient[rng.integers(len(with_gradient))]
        # Where the gradient is largest of a few: a difference of two losses has its digits there.
        places = rng.integers(stop.value.size, size=20)
        place = int(places[np.argmax(np.abs(stop.gradient.ravel()[places]))])
        step = 1e-6 * max(1.0, float(np.abs(stop.value).max()))
        losses = [_moved(model, x, y, found, stop, place, sign * step) for sign in (1, -1)]
        expected = (losses[0] - losses[1]) / (2 * step)
        np.testing.assert_allclose(stop.gradient.ravel()[place], expected, rtol=1e-4, atol=1e-9, err_msg=stop.name)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_parameters_are_finite_differences(name, monkeypatch):
    model, x, y = _model(name, monkeypatch, tf.float64)
    found = walk(model, x, y)
    rng, variables = np.random.default_rng(3), model.trainable_variables
    uses = [
        (f"{stop.name} {name}", about, variable)
        for stop in found.stops
        for name, about in stop.parameters.items()
        for variable in variables
        if about.gradient is not None and np.array_equal(variable.numpy(), about.value)
    ]
    assert len(uses) >= 4
    for message, about, variable in [uses[i] for i in rng.permutation(len(uses))[:PLACES]]:
        places = rng.integers(about.value.size, size=20)
        place = int(places[np.argmax(np.abs(about.gradient.ravel()[places]))])
        losses = []
        for by in (1e-6, -1e-6):
            moved = about.value.ravel() + by * (np.arange(about.value.size) == place)
            variable.assign(moved.reshape(about.value.shape))
            losses.append(float(cross_entropy_from_logits(y, model(x, training=False))[0]))
        variable.assign(about.value)
        expected = (losses[0] - losses[1]) / 2e-6
        np.testing.assert_allclose(about.gradient.ravel()[place], expected, rtol=1e-4, atol=1e-8, err_msg=message)


def _moved(model, x, y, found: Walk, stop, place: int, by: float) -> float:
    """The loss with one number of one stop's tensor moved: the call that gives these numbers is recognised by them."""
    done = []

    def move(callee, call, *args, **kwargs):
        result = call(*args, **kwargs)
        output = result[0] if isinstance(result, tuple) else result
        value = output.numpy()
        own = value[0] if value.shape[:1] == (1,) and value.ndim > 1 else value
        if done or own.shape != stop.value.shape or not np.array_equal(own, stop.value):
            return result
        done.append(True)
        moved = tf.constant((value.ravel() + by * (np.arange(value.size) == place)).reshape(value.shape))
        return (moved, *result[1:]) if isinstance(result, tuple) else moved

    with intercept(move):
        loss = cross_entropy_from_logits(y, model(x, training=False))
    assert done, stop.name
    return float(loss[0])


def test_steps_inside_of_attention_by_hand(monkeypatch):
    model, x, y = _model("vit_cifar100", monkeypatch, tf.float64)
    found = walk(model, x, y)
    layer = model.blocks[0].attention
    name = "blocks/0/attention"
    given = found["blocks/0/attention_norm"].value  # (T, D)
    parts = {}
    for part in ("query", "key", "value"):
        projection = getattr(layer, part)
        parts[part] = np.einsum("td,dnk->ntk", given, projection.kernel) + projection.bias.numpy()[:, None]
        np.testing.assert_allclose(found[f"{name}: {part}"].value, parts[part], rtol=1e-12, atol=1e-12)
    scale = np.float32(layer.scale)  # a Python number is float32 before `tf.cast` makes it float64
    scores = scale * np.einsum("ntk,nsk->nts", parts["query"], parts["key"])
    np.testing.assert_allclose(found[f"{name}: scores"].value, scores, rtol=1e-12, atol=1e-12)
    weights = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(found[f"{name}: weights"].value, weights, rtol=1e-12)
    heads = found[f"{name}: heads"]
    np.testing.assert_allclose(heads.value, weights @ parts["value"], rtol=1e-12, atol=1e-12)
    # The gradients that the plain formulas have.
    of_heads = np.einsum("td,nkd->ntk", found[name].gradient, layer.output.kernel)
    np.testing.assert_allclose(heads.gradient, of_heads, rtol=1e-9, atol=1e-15)
    of_weights = of_heads @ parts["value"].transpose(0, 2, 1)
    np.testing.assert_allclose(found[f"{name}: weights"].gradient, of_weights, rtol=1e-9, atol=1e-15)
    inner = (of_weights * weights).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(found[f"{name}: scores"].gradient, weights * (of_weights - inner), rtol=1e-7, atol=1e-15)


def test_an_involutions_pixel_by_hand(monkeypatch):
    model, x, y = _model("inn_cifar10", monkeypatch)
    found = walk(model, x, y)
    kernel, image = found["involutions/0: kernel"], np.pad(found["input"].value, [(1, 1), (1, 1), (0, 0)])
    assert kernel.axes == "HWKG" and kernel.value.shape == (32, 32, 9, 1)
    taps = image[4 : 4 + 3, 7 : 7 + 3]  # (3, 3, C) around (4, 7)
    by_hand = np.einsum("uv,uvc->c", kernel.value[4, 7, :, 0].reshape(3, 3), taps)
    np.testing.assert_allclose(found["involutions/0"].value[4, 7], by_hand, rtol=1e-5)
    of_tap = np.einsum("c,uvc->uv", found["involutions/0"].gradient[4, 7], taps).ravel()
    np.testing.assert_allclose(kernel.gradient[4, 7, :, 0], of_tap, rtol=1e-4, atol=1e-9)
    pooled = found["max pool(involutions/0)"]
    assert pooled.rule.inputs == ("involutions/0",) and pooled.rule.settings == {"size": 2}
    parameter = found["hidden"].parameters["kernel"]
    flat = found["reshape(relu(involutions/2))"].value
    np.testing.assert_allclose(parameter.gradient, np.outer(flat, found["hidden"].gradient), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["inn_cifar10", "convnet_cifar10", "vit_cifar100", "perceiver_cifar100"])
def test_half_precision_changes_no_bit_either(name, monkeypatch):
    model, x, y = _model(name, monkeypatch, tf.bfloat16)
    found = walk(model, tf.cast(x, tf.float32), y)
    np.testing.assert_array_equal(found.outputs, model(tf.cast(x, tf.float32), training=False)[0])
    inside = [stop for stop in found.stops if stop.kind == "step" and stop.name != "probabilities"]
    assert inside and all(stop.rule is not None and stop.gradient is not None for stop in inside)
    assert all(stop.value.dtype == np.float32 for stop in found.stops if stop.name != "loss")


def test_a_nan_is_shown_where_it_first_appears(monkeypatch):
    model, x, y = _model("convnet_cifar10", monkeypatch)
    model.convolutions[1].bias.assign(tf.fill([3], np.nan))
    found = walk(model, x, y)
    assert found.first_nonfinite() == "convolutions/1" and np.isnan(found.loss)
    assert found.to_json()["first_nonfinite"] == "convolutions/1"
    json.dumps(found.to_json(), allow_nan=False)


def test_only_one_example(monkeypatch):
    model, x, _ = _model("inn_cifar10", monkeypatch)
    with pytest.raises(ValueError, match="one example"):
        walk(model, tf.concat([x, x], 0), tf.constant([1, 2]))


def test_a_keras_model_layer_by_layer():
    import keras

    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(2, 3, name="conv"), keras.layers.ReLU()])
    outside = keras.Input((6, 6, 3))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(inner(outside)))
    model = keras.Model(outside, keras.layers.Dense(4, activation="softmax", name="classes")(x))
    images, labels = tf.random.stateless_uniform([1, 6, 6, 3], [1, 2]), tf.constant([2])
    plain = model(images, training=False)
    found = walk_layers(model, images, labels, loss=keras.losses.sparse_categorical_crossentropy)
    np.testing.assert_array_equal(found.outputs, plain[0])
    np.testing.assert_array_equal(model(images, training=False), plain)
    assert "call" not in vars(model.get_layer("classes"))
    names = [stop.name for stop in found.stops]
    assert names[0] == "input" and names[1] == "conv" and names[-2:] == ["classes", "loss"] and len(names) == 6
    assert found.loss == pytest.approx(-np.log(found.outputs[2]), rel=1e-5)
    given, dense = found["classes"].parameters, found["classes"]
    # −log p[2] through the softmax: p − one-hot, times the dense layer's input.
    by_hand = np.outer(found[names[3]].value, dense.value - (np.arange(4) == 2))
    np.testing.assert_allclose(given["kernel"].gradient, by_hand, rtol=1e-4, atol=1e-6)
    gradient = (dense.value - (np.arange(4) == 2)) @ given["kernel"].value.T
    np.testing.assert_allclose(found[names[3]].gradient, gradient, rtol=1e-4, atol=1e-6)
    assert found["conv"].formula == "" and found["conv"].value.shape == (4, 4, 2)
    assert len(walk_html([("an image", found)], "Keras")) > 10_000


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained ConvNet with two step checkpoints; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "convnet"
    settings = [("data", "sample"), ("epochs", "2"), ("batch_size", "32"), ("xla", "off"), ("filters", "2,3,5")]
    train(Run.create(folder, recipes.get("convnet_cifar10").changed(settings)), DATASET)
    return folder


@pytest.fixture
def _tiny_images(monkeypatch):
    monkeypatch.setattr("loops.data.sample.images", lambda classes: DATASET)


@pytest.mark.usefixtures("_tiny_images")
def test_the_script_follows_examples_and_checkpoints(call, trained, tmp_path):
    file = tmp_path / "walk.json"
    code, text, error = call("walk", trained, "--example", 2, 5, "--checkpoint", "kept", "best", "--json", file)
    assert code == 0 and error == ""
    walks = json.loads(file.read_text())["walks"]
    assert len(walks) == 6 and "relu(convolutions/0)" in text and "loss" in text
    assert walks[0]["label"] == DATASET.test.labels[2] and walks[1]["label"] == DATASET.test.labels[5]
    assert walks[0]["about"].startswith("step-") and walks[4]["about"].startswith("best, test example 2")
    assert walks[0]["loss"] != walks[2]["loss"]


def test_the_script_names_half_precision(call):
    code, text, error = call("walk", Path(__file__).parent / "golden" / "vit_cifar100", "--checkpoint", "last")
    assert code == 0 and error == "" and text.startswith("A walk through vit_cifar100 in mixed_bfloat16: ")


@pytest.mark.usefixtures("_tiny_images")
def test_the_script_follows_a_picture_of_ones_own(call, trained, tmp_path):
    from PIL import Image

    Image.fromarray(DATASET.test.inputs[3]).save(tmp_path / "cat.png")
    code, text, error = call("walk", trained, "--input", tmp_path / "cat.png")
    assert code == 0 and error == "" and "taken for the class it is given" in " ".join(text.split())


@pytest.mark.usefixtures("_tiny_images")
def test_times_name_the_kernels_of_each_stop(call, trained, tmp_path):
    code, text, error = call("walk", trained, "--times", "--json", tmp_path / "w.json", "--html", tmp_path / "w.html")
    assert code == 0 and error == "" and "convolutions/0: " in text
    times = json.loads((tmp_path / "w.json").read_text())["times"]
    phases = {phase for _, phase, _ in times["convolutions/0"]}
    assert {"forward", "backward"} <= phases and all(us >= 0 for _, _, us in times["hidden"])
    assert json.dumps(times["hidden"][0][0]) in (tmp_path / "w.html").read_text()


@pytest.mark.usefixtures("_tiny_images")
def test_bad_input_is_one_line(call, trained, tmp_path):
    (tmp_path / "no.png").write_text("no picture")
    for arguments, words in (
        ([trained, "--example", 23], "23 test examples: give 0 .. 22"),
        ([trained, "--example", -1], "give 0 .. 22"),
        ([trained, "--input", tmp_path / "no.png"], "no.png"),
        ([trained, "--input", trained / "recipe.json"], "recipe.json"),
        ([trained, "--checkpoint", "step-5"], "which has: best, step-"),
        ([trained, "--checkpoint", "middle"], "give best, last, kept"),
        ([trained / "checkpoints"], "no run there"),
        (["inn_cifar10", "--data", "sample", "--checkpoint", "best"], "is a recipe and has none"),
        (["inn_cifar"], "did you mean 'inn_cifar10'"),
    ):
        code, text, error = call("walk", *arguments)
        assert code == 2 and text == "" and error.startswith("error: ") and error.count("\n") == 1, error
        assert words in error


@pytest.mark.usefixtures("_tiny_images")
def test_a_run_without_weights_is_refused(call, trained, tmp_path):
    import shutil

    shutil.copytree(trained, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    for name in ("best", "last", "kept"):
        code, _, error = call("walk", tmp_path / "run", "--checkpoint", name)
        assert code == 2 and error.count("\n") == 1, error
