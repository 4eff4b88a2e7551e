"""The exponential moving average of a model's weights, which is evaluated in their place."""

import tensorflow as tf

from tfcore.module import Module
from tfcore.ops.normalization import moving_average


def check_average_decay(decay: float) -> None:
    """Raise ValueError unless 0 <= decay < 1."""
    if not 0 <= decay < 1:
        raise ValueError(f"average_decay must be at least 0 and below 1, such as 0.999, got {decay}")


def update_average(
    average: Module, model: Module, *, decay: float, updates: tf.Tensor, condition: tf.Tensor | None = None
) -> None:
    """Move each variable of `average` towards the same of `model`: a ← d · a + (1 − d) · w, after the step's update.

    (Polyak and Juditsky 1992; with a constant decay as in Keras's `use_ema`.) The first of the `updates` () int64,
    counted with this one, starts the average at the weights. Running statistics are averaged like weights: they belong
    to them.

    `condition` () bool: where it is False nothing moves (a step that loss scaling skips).

    Raises:
        ValueError: for a decay outside [0, 1).
    """
    check_average_decay(decay)
    targets, weights = average.named_variables(), model.named_variables()
    for path, target in targets.items():
        kept = tf.where(updates > 1, tf.cast(decay, target.dtype), tf.zeros([], target.dtype))
        value = moving_average(target, weights[path], kept)
        target.assign(value if condition is None else tf.where(condition, value, target))
