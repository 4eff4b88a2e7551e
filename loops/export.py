"""A trained model as a SavedModel, to be loaded without any code of this project."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from loops.data.dataset import Sizes
from loops.evaluation import probabilities
from loops.run import disk
from tfcore.module import Module

CLASSES = "classes.json"


def export(model: Module, folder: Path, *, sizes: Sizes, class_names: Sequence[str], pixel_scale: float = 255.0) -> str:
    """Write `model` to `folder` as a SavedModel and return the name of its input, `images` or `series`.

    `tf.saved_model.load(folder)` can be called with inputs as stored, (B, H, W, 3) uint8 pixels or (B, T, 1) float32
    series, for any B, and returns probabilities (B, classes) float32, the same as `loops.evaluation.predict`. The
    signature `serving_default` takes the input by its name and returns {"probabilities": ...}. Pixel scale and
    normalization are inside. `classes.json` in the folder lists the names of the classes in order.

    The folder is written aside and renamed: it holds all of the export or does not exist.

    Raises:
        ValueError: for a folder that holds something already.
        OSError: if it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is no empty folder: name a new one by --export")
    folder = folder.resolve()
    name = "images" if len(sizes.input_shape) == 3 else "series"
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        exported = _exported(model, tf.TensorSpec((None, *sizes.input_shape), sizes.input_dtype, name), pixel_scale)
        try:
            # Without gradients, which a model in use has no need of.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(exported, partial, signatures=exported.serve, options=options)
        except tf.errors.OpError as error:
            raise OSError(f"cannot write {folder}: {error.message}") from error
        (partial / CLASSES).write_text(json.dumps(list(class_names), indent=2) + "\n")
        for path in partial.rglob("*"):
            disk.flush(path)
        os.replace(partial, folder)  # an empty folder is replaced, one that has been filled meanwhile is not
        disk.flush(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return name


def _exported(model: Module, inputs: tf.TensorSpec, pixel_scale: float) -> tf.Module:
    module = tf.Module()
    module.model = model  # whose variables are saved

    @tf.function(input_signature=[inputs], autograph=False)
    def call(inputs: tf.Tensor) -> tf.Tensor:
        return probabilities(model, inputs, pixel_scale=pixel_scale)

    @tf.function(input_signature=[inputs], autograph=False)
    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": call(inputs)}

    module.__call__, module.serve = call, serve
    return module
