"""What a trained model says: metrics over a split, and the classes of single pictures."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from loops.data import pictures
from loops.data.dataset import Split
from loops.data.pipeline import evaluation_batches
from loops.objective import Penalty, no_penalty, to_floats
from loops.steps import Metrics, make_evaluation_step
from tfcore.module import Module
from tfcore.ops.activations import softmax
from tfcore.precision import statistics_dtype


def evaluate(
    model: Module,
    split: Split,
    *,
    classes: int,
    batch_size: int,
    penalty: Penalty = no_penalty,
    pixel_scale: float = 255.0,
) -> dict[str, float]:
    """Return mean loss, accuracy and, where there are more than 5 classes, top-5 accuracy of `model` over a split."""
    metrics = Metrics(top_k=5 if classes > 5 else None)
    step = make_evaluation_step(model, metrics, penalty=penalty, pixel_scale=pixel_scale)
    for inputs, labels in evaluation_batches(split, batch_size):
        step(tf.constant(inputs), tf.constant(labels))
    return metrics.result()


def predict(model: Module, inputs: np.ndarray, *, batch_size: int, pixel_scale: float = 255.0) -> np.ndarray:
    """Return class probabilities (n, classes) of inputs (n, ...) as stored (uint8 pixels, or floats), by batches."""
    batches = (tf.constant(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size))
    return np.concatenate([probabilities(model, batch, pixel_scale=pixel_scale).numpy() for batch in batches])


def probabilities(model: Module, inputs: tf.Tensor, *, pixel_scale: float = 255.0) -> tf.Tensor:
    """Return class probabilities (B, classes) of inputs (B, ...) as stored, in float32."""
    logits = model(to_floats(inputs, pixel_scale), training=False)
    return softmax(tf.cast(logits, statistics_dtype(logits.dtype)))


def read_picture(path: Path, size: int) -> np.ndarray:
    """Return a picture file as an input of a model, (size, size, 3) uint8, scaled where its size is another.

    Raises:
        DataError: for a file that is missing, damaged or no picture.
        ValueError: where Pillow is not installed.
    """
    return scaled(tf.constant(pictures.read(path)), size).numpy()


def scaled(image: tf.Tensor, size: int) -> tf.Tensor:
    """Return a picture (h, w, 3) of values 0 .. 255 as an input of a model, (size, size, 3) uint8."""
    # Antialiased, since a photograph is usually many times larger than the model's input.
    resized = tf.image.resize(tf.cast(image, tf.float32), (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
