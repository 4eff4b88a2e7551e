"""What a train step minimizes: from examples as they are stored to a loss for each.

Pixels become floats, examples are augmented and mixed, the model is called, labels become distributions.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tfcore.layers.mixing import Mixing
from tfcore.module import Module
from tfcore.ops.losses import cross_entropy_from_logits, cross_entropy_of_targets, targets_of
from tfcore.precision import statistics_dtype

Penalty = Callable[[], tf.Tensor | None]  # of the weights, (); None: nothing to add


def no_penalty() -> None:
    """Return None: the penalty of a training without one."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a train step minimizes: from examples as stored to a loss for each.

    Attributes:
        pixel_scale: see `to_floats`.
        mixing: what is done to the examples first; None: nothing.
        label_smoothing: ε of `tfcore.ops.losses.targets_of`.
        penalty: added to the loss, and to the loss that `Metrics` report, as Keras does with its regularizers.
    """

    pixel_scale: float = 255.0
    mixing: Mixing | None = None
    label_smoothing: float = 0.0
    penalty: Penalty = no_penalty

    def losses(
        self, model: Module, inputs: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return losses (B,) and logits (B, classes) of a model in training, under a step's key.

        inputs (B, ...) as stored, labels (B,). Of mixed examples the logits are those of the mixture.
        """
        x, shares = to_floats(inputs, self.pixel_scale), None
        if self.mixing is not None:
            x, shares = self.mixing(x, key=key)
        logits = model(x, training=True, key=key)
        logits = tf.cast(logits, statistics_dtype(logits.dtype))  # (B, classes)
        if self.label_smoothing or (self.mixing is not None and self.mixing.config.mixes):
            targets = targets_of(labels, logits.shape[-1], label_smoothing=self.label_smoothing, shares=shares)
            losses = cross_entropy_of_targets(targets, logits)
        else:
            losses = cross_entropy_from_logits(labels, logits)
        return with_penalty(self.penalty(), losses), logits


OBJECTIVE = Objective()  # cross entropy of labels, on pixels divided by 255


def to_floats(inputs: tf.Tensor, pixel_scale: float) -> tf.Tensor:
    """uint8 pixels -> float32 pixels / pixel_scale (255 for models of [0, 1], 1 for 0 .. 255); floats as they are."""
    return tf.cast(inputs, tf.float32) / pixel_scale if inputs.dtype == tf.uint8 else inputs


def with_penalty(penalty: tf.Tensor | None, losses: tf.Tensor) -> tf.Tensor:
    """Return losses (B,) with a penalty () added to each; None adds nothing."""
    return losses if penalty is None else losses + tf.cast(penalty, losses.dtype)
