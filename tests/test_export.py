"""SavedModels: the same numbers in a process that knows nothing of this project, and no half-written folder."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from loops import data, export, recipes
from loops.data.dataset import Sizes
from loops.evaluation import predict, read_picture
from loops.run import checkpoint, disk
from loops.run.restore import fresh_model, restored_model
from loops.run.runs import Run
from loops.train import train
from tests.support.tiny import tiny_dataset
from tfcore.module import Module

VIT = ["image_size=16", "patch_size=2", "width=6", "blocks=1", "heads=2", "mlp_width=5", "head=mean", "head_units=7"]
SERIES = ["blocks=1", "heads=2", "key_dim=3", "head_units=5"]
CASES = {  # the chunked ones have more keys than a block holds, so that a loop is exported
    "inn": ("inn_cifar10", ["units=5"]),
    "inn in patches": ("inn_cifar10", ["units=5", "formulation=patches"]),
    "cnn": ("cnn_cifar10", ["filters=3,5,7", "units=5", "batch_norm=after", "activation=prelu", "prelu_axis=channel"]),
    "vit": ("vit_cifar100", VIT),
    "vit chunked": ("vit_cifar100", [*VIT, "image_size=24", "formulation=chunked"]),
    "vit bfloat16": ("vit_cifar100", [*VIT, "precision=mixed_bfloat16"]),
    "perceiver chunked": (
        "perceiver_cifar100",
        ["image_size=24", "patch_size=2", "width=6", "latents=5", "blocks=1", "heads=2", "formulation=chunked"],
    ),
    "series folded": ("transformer_forda", [*SERIES, "formulation=folded"]),
    "series chunked": ("transformer_forda", [*SERIES, "formulation=chunked"]),
    "windows": ("transformer_forda_mended", ["width=6", "blocks=1", "heads=2"]),
}
# Runs in a process without this project: loads each folder, answers each batch with the call and the signature.
STRANGER = """
import sys
import numpy as np, tensorflow as tf
for folder in sys.argv[1:]:
    loaded, found = tf.saved_model.load(folder), {}
    serve = loaded.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    for size, inputs in np.load(folder + "-inputs.npz").items():
        found[size] = loaded(inputs).numpy()
        np.testing.assert_array_equal(serve(**{name: tf.constant(inputs)})["probabilities"], found[size])
    np.savez(folder + "-found.npz", **found)
assert not {"loops", "tfcore"} & {name.split(".")[0] for name in sys.modules}
"""


def _model(case) -> tuple[Module, Sizes, float]:
    """A model of a case, its biases, norms and statistics not the 0 and 1 of their start."""
    name, settings = CASES[case]
    recipe = recipes.get(name).changed([setting.split("=") for setting in settings])
    sizes = data.SIZES[recipe.dataset]
    model, rng = fresh_model(recipe, sizes), np.random.default_rng(0)
    for variable in model.named_variables().values():
        variable.assign_add(rng.uniform(-0.2, 0.2, variable.shape).astype(np.float32))
    if "vit" in case or "perceiver" in case:
        model.tokens.normalization.fit(_inputs(sizes, 5))
    return model, sizes, recipe.pixel_scale


def _inputs(sizes: Sizes, count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    if sizes.input_dtype == np.uint8:
        return rng.integers(0, 256, (count, *sizes.input_shape), np.uint8)
    return rng.normal(size=(count, *sizes.input_shape)).astype(np.float32)


def test_every_kind_of_model_gives_its_numbers_to_a_stranger(tmp_path):
    expected = {}
    for case in CASES:
        model, sizes, pixel_scale = _model(case)
        names = [f"class {i}" for i in range(sizes.classes)]
        folder = tmp_path / case
        export.export(model, folder, sizes=sizes, class_names=names, pixel_scale=pixel_scale)
        assert json.loads((folder / "classes.json").read_text()) == names
        graph = tf.saved_model.load(folder).signatures["serving_default"].graph.as_graph_def()
        assert (b"While" in graph.SerializeToString()) == ("chunked" in case)
        batches = {str(size): _inputs(sizes, size) for size in (1, 7)}
        np.savez(f"{folder}-inputs.npz", **batches)
        expected[case] = {
            size: predict(model, batch, batch_size=5, pixel_scale=pixel_scale) for size, batch in batches.items()
        }
    (tmp_path / "elsewhere").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", STRANGER, *(str(tmp_path / case) for case in CASES)]
    process = subprocess.run(
        command, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    for case, batches in expected.items():
        found = np.load(tmp_path / f"{case}-found.npz")
        for size, probabilities in batches.items():
            assert found[size].shape == (int(size), probabilities.shape[1]) and found[size].dtype == np.float32
            # Graph and eager mode round alike but for the order of sums; half precision rounds more.
            tolerance = 1e-2 if case == "vit bfloat16" else 2e-6
            np.testing.assert_allclose(found[size], probabilities, rtol=tolerance, atol=1e-7, err_msg=case)
        spread = np.abs(batches["7"] - batches["7"][0]).max()
        assert spread > 1e-5, f"{case}: the answers do not depend on the inputs, so that the test says nothing"


# The script.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run whose best and last weights differ; tests only read it."""
    run_folder = tmp_path_factory.mktemp("runs") / "convnet"
    settings = [("data", "sample"), ("epochs", "1"), ("batch_size", "32"), ("xla", "off"), ("filters", "3,5,7")]
    run = Run.create(run_folder, recipes.get("convnet_cifar10").changed([*settings, ("units", "8")]))
    train(run, tiny_dataset())
    path, arrays, meta, _ = checkpoint.newest_intact(run.checkpoints)
    arrays["model/logits/bias"] += np.arange(10, dtype=np.float32)
    checkpoint.save(path, arrays, meta)
    return run_folder


@pytest.mark.parametrize("which", ["best", "last"])
def test_the_script_exports_the_checkpoint_that_was_asked_for(call, trained, tmp_path, which):
    folder = tmp_path / "new" / "served"
    code, text, error = call(
        "evaluate", trained, "--export", folder, "--checkpoint", which, "--json", tmp_path / "e.json"
    )
    assert code == 0 and error == "", error
    assert "images (B, 32, 32, 3) uint8 -> probabilities (B, 10) float32" in text
    assert json.loads((tmp_path / "e.json").read_text()) == {
        "export": str(folder),
        "input": {"name": "images", "shape": ["B", 32, 32, 3], "dtype": "uint8"},
    }
    run, images = Run.open(trained), tiny_dataset().test.inputs
    path = run.best if which == "best" else checkpoint.newest_intact(run.checkpoints)[0]
    found = tf.saved_model.load(str(folder))(images).numpy()
    np.testing.assert_allclose(found, predict(restored_model(run, path), images, batch_size=len(images)), rtol=2e-6)
    assert json.loads((folder / "classes.json").read_text()) == run.class_names()
    assert os.listdir(folder.parent) == ["served"]


def test_a_damaged_last_checkpoint_is_passed_over_aloud(call, trained, tmp_path):
    run = Run.open(shutil.copytree(trained, tmp_path / "run"))
    path, arrays, meta, _ = checkpoint.newest_intact(run.checkpoints)
    checkpoint.save(checkpoint.step_path(run.checkpoints, 10**6), arrays, meta)
    checkpoint.step_path(run.checkpoints, 10**6).write_bytes(b"PK")
    folder = tmp_path / "served"
    code, text, error = call("evaluate", run.folder, "--checkpoint", "last", "--export", folder)
    assert code == 0 and path.name in text
    assert error.startswith("passed over: ") and "step-001000000.npz: damaged" in error


def test_a_folder_that_holds_something_is_refused_and_untouched(call, trained, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("one")
    (tmp_path / "file").write_text("two")
    for name in ("thesis", "file"):
        code, _, error = call("evaluate", trained, "--export", tmp_path / name)
        assert code == 2 and error.startswith("error: ") and error.count("\n") == 1
        assert str(tmp_path / name) in error and "no empty folder" in error
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "one" and (tmp_path / "file").read_text() == "two"
    (tmp_path / "empty").mkdir()
    assert call("evaluate", trained, "--export", tmp_path / "empty")[0] == 0
    assert (tmp_path / "empty" / "saved_model.pb").exists()


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_stopped_halfway_leaves_nothing(trained, tmp_path, monkeypatch, failure):
    def fail(path):
        assert list(tmp_path.glob("served.*.partial/saved_model.pb")) and not (tmp_path / "served").exists()
        raise failure

    monkeypatch.setattr(disk, "flush", fail)
    run = Run.open(trained)
    with pytest.raises(type(failure)):
        export.export(restored_model(run), tmp_path / "served", sizes=run.sizes(), class_names=run.class_names())
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(call, trained, tmp_path, monkeypatch):
    def full(*arguments, **settings):
        raise tf.errors.ResourceExhaustedError(None, None, "variables.data: No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    code, _, error = call("evaluate", trained, "--export", tmp_path / "served")
    assert (
        code == 2 and error == f"error: cannot write {tmp_path / 'served'}: variables.data: No space left on device\n"
    )
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The SavedModel of an involution network, and pixels (3, 32, 32, 3) with their probabilities."""
    model, sizes, pixel_scale = _model("inn")
    folder = tmp_path_factory.mktemp("images") / "served"
    export.export(model, folder, sizes=sizes, class_names=list("abcdefghij"), pixel_scale=pixel_scale)
    loaded, pixels = tf.saved_model.load(folder), _inputs(sizes, 3)
    return loaded, pixels, loaded.signatures["serving_default"](images=tf.constant(pixels))["probabilities"]


def test_pixels_may_be_floats(images):
    loaded, pixels, expected = images
    for whole in (pixels, tf.constant(pixels), pixels.astype("float32"), pixels.astype("float64")):
        np.testing.assert_array_equal(loaded(whole), expected)
    unit = (pixels / 255).astype("float32")
    for found in (loaded(unit), loaded(tf.constant(unit)), loaded(pixels / 255)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        loaded.signatures["floats"](images=tf.constant(unit))["probabilities"], expected, rtol=0, atol=1e-5
    )
    black = np.zeros_like(pixels)
    np.testing.assert_array_equal(loaded(black), loaded(black.astype("float32")))


@pytest.mark.parametrize("moved", [lambda unit: (unit - 0.5) / 0.25, lambda unit: 300 * unit])
def test_standardized_floats_are_refused(images, moved):
    loaded, pixels, _ = images
    with pytest.raises(tf.errors.InvalidArgumentError, match="not standardized"):
        loaded(moved(pixels / 255).astype("float32"))


def test_files_are_taken_as_they_are(images, tmp_path):
    loaded, pixels, expected = images
    encoded = loaded.signatures["encoded"]

    def found(*contents):
        return encoded(encoded=tf.constant(list(contents)))["probabilities"]

    np.testing.assert_array_equal(found(*(tf.io.encode_png(image).numpy() for image in pixels)), expected)
    # Larger ones are scaled as --predict does; several kinds in one batch.
    large = np.kron(pixels[0], np.ones((3, 2, 1), np.uint8))
    kinds = {"a.jpg": tf.io.encode_jpeg(large, quality=95), "b.png": tf.io.encode_png(large)}
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content.numpy())
    as_read = np.stack([read_picture(tmp_path / name, 32) for name in kinds])
    # Decoders of JPEG may differ in a pixel's last bit.
    np.testing.assert_allclose(found(*(c.numpy() for c in kinds.values())), loaded(as_read), rtol=0, atol=0.01)
    # What is transparent is laid on white.
    clear = np.concatenate([pixels[0], np.zeros((32, 32, 1), np.uint8)], axis=-1)
    np.testing.assert_array_equal(found(tf.io.encode_png(clear).numpy()), loaded(np.full((1, 32, 32, 3), 255, "uint8")))
    with pytest.raises(tf.errors.InvalidArgumentError):
        found(b"no picture")
