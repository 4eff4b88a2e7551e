"""A trained model as a SavedModel, to be loaded without any code of this project."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from loops.data.dataset import Sizes
from loops.evaluation import probabilities, scaled
from loops.run import disk
from tfcore.module import Module

CLASSES = "classes.json"
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins


def export(model: Module, folder: Path, *, sizes: Sizes, class_names: Sequence[str], pixel_scale: float = 255.0) -> str:
    """Write `model` to `folder` as a SavedModel and return the name of its input, `images` or `series`.

    `tf.saved_model.load(folder)` can be called with inputs as stored, (B, H, W, 3) uint8 pixels or (B, T, 1) float32
    series, for any B, and returns probabilities (B, classes) float32, the same as `loops.evaluation.predict`. The
    signature `serving_default` takes the input by its name and returns {"probabilities": ...}. Pixel scale and
    normalization are inside. `classes.json` in the folder lists the names of the classes in order.

    An image model can also be called with floats, of 0 .. 1 or of 0 .. 255 (others are refused). Two more signatures:
    `floats` takes `images` (B, H, W, 3) float32 in 0 .. 1; `encoded` takes `encoded` (B,) strings, the bytes of PNG,
    JPEG, GIF or BMP files of any size, scaled as `--predict` does. A photograph's orientation is not looked at:
    TensorFlow's decoders do not know it.

    The folder is written aside and renamed: it holds all of the export or does not exist.

    Raises:
        ValueError: for a folder that holds something already, or whose name is not UTF-8.
        OSError: if it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is no empty folder: name a new one by --export")
    folder = folder.resolve()
    if os.fsencode(folder) != str(folder).encode(errors="replace"):
        raise ValueError(f"{str(folder)!a}: TensorFlow writes names in UTF-8 alone: name another folder by --export")
    name = "images" if len(sizes.input_shape) == 3 else "series"
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        spec = tf.TensorSpec((None, *sizes.input_shape), sizes.input_dtype, name)
        exported, signatures = _exported(model, spec, pixel_scale)
        try:
            # Without gradients, which a model in use has no need of.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(exported, partial, signatures=signatures, options=options)
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


def _exported(model: Module, inputs: tf.TensorSpec, pixel_scale: float) -> tuple[tf.Module, dict[str, Callable]]:
    """The module to save, and its signatures by name."""
    module = tf.Module()
    module.model = model  # whose variables are saved

    @tf.function(autograph=False)
    def call(inputs: tf.Tensor) -> tf.Tensor:
        return probabilities(model, inputs, pixel_scale=pixel_scale)

    def signature(spec: tf.TensorSpec, stored: Callable[[tf.Tensor], tf.Tensor]) -> Callable:
        return tf.function(
            lambda inputs: {"probabilities": call(stored(inputs))}, input_signature=[spec], autograph=False
        )

    call.get_concrete_function(inputs)
    signatures = {"serving_default": signature(inputs, lambda stored: stored)}
    if inputs.dtype == tf.uint8:
        floats, doubles = (tf.TensorSpec(inputs.shape, dtype, inputs.name) for dtype in (tf.float32, tf.float64))

        @tf.function(autograph=False)
        def call_images(images: tf.Tensor) -> tf.Tensor:
            return call(images if images.dtype == tf.uint8 else _as_read(images, pixel_scale))

        for spec in (inputs, floats, doubles):
            call_images.get_concrete_function(spec)
        module.__call__ = call_images
        signatures["floats"] = signature(floats, lambda images: images * (255.0 / pixel_scale))
        encoded = tf.TensorSpec((None,), tf.string, "encoded")
        signatures["encoded"] = signature(encoded, functools.partial(_decoded, size=inputs.shape[1]))
    else:
        module.__call__ = call
    return module, signatures


def _as_read(images: tf.Tensor, pixel_scale: float) -> tf.Tensor:
    """Float pixels (B, H, W, 3), of 0 .. 1 or of 0 .. 255 (if any is above 1), as the model reads them: float32."""
    images = tf.cast(images, tf.float32)
    low, high = tf.reduce_min(images), tf.reduce_max(images)
    words = "float pixels must lie in 0 .. 255, or in 0 .. 1, not standardized: found"
    with tf.control_dependencies([tf.debugging.Assert((low >= 0) & (high <= 255), [words, low, high])]):
        pixels = tf.where(high <= 1, 255.0 * images, images)
    return pixels / pixel_scale


def _decoded(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Picture files (B,) -> (B, size, size, 3) uint8; what is transparent in a PNG is laid on white."""

    def over_white(content: tf.Tensor) -> tf.Tensor:
        image = tf.cast(tf.io.decode_png(content, channels=4), tf.float32)  # (h, w, 4)
        alpha = image[..., 3:] / 255.0
        return image[..., :3] * alpha + 255.0 * (1.0 - alpha)

    def opaque(content: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.io.decode_image(content, channels=3, expand_animations=False), tf.float32)

    def decode(content: tf.Tensor) -> tf.Tensor:
        is_png = tf.strings.substr(content, 0, len(PNG)) == PNG
        return scaled(tf.cond(is_png, lambda: over_white(content), lambda: opaque(content)), size)

    return tf.map_fn(decode, encoded, fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8))
