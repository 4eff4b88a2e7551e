"""What a history can tell of the inside of a training: gradients, weights and running statistics, layer by layer.

Columns of `history.csv`, with PATH the variable's:

    gradient_norm/PATH     mean over the epoch's steps of the norm of a kernel's gradient
    weight_norm/PATH       norm of a kernel at the epoch's end
    near_zero/PATH         share of a kernel's weights below 1e-3 in magnitude: what an L1 penalty has switched off
    moving_rms/PATH        root mean square of a batch norm's running statistic; from its start (0 or 1) to the data's
"""

import numpy as np
import tensorflow as tf

from tfcore.module import Module

NEAR_ZERO = 1e-3


class Diagnostics(Module):
    """Sums of the gradients' norms over an epoch; variables, so that a checkpoint in the middle of one keeps them.

    `model`: all its kernels are watched.
    """

    def __init__(self, model: Module):
        super().__init__()
        self._model = model  # not ours: kept out of named_variables
        self._kernels = {path: v for path, v in model.named_trainable_variables().items() if path.endswith("kernel")}
        self.norms = tf.Variable(tf.zeros([len(self._kernels)], tf.float64), trainable=False, name="norms")
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")

    def update(self, gradients: dict[str, tf.Tensor]) -> None:
        """Add one step's gradients, by path; one that loss scaling skips, with an infinity or a NaN, does not count."""
        norms = tf.stack([tf.norm(tf.cast(gradients[path], tf.float64)) for path in self._kernels])
        finite = tf.reduce_all(tf.math.is_finite(norms))
        self.norms.assign_add(tf.where(finite, norms, tf.zeros_like(norms)))
        self.steps.assign_add(tf.cast(finite, tf.int64))

    def reset(self) -> None:
        """Start a new epoch."""
        for variable in self.named_variables().values():
            variable.assign(tf.zeros_like(variable))

    def result(self) -> dict[str, float]:
        """Return the columns of an epoch's row."""
        means = (self.norms / tf.cast(tf.maximum(self.steps, 1), tf.float64)).numpy()
        row = {f"gradient_norm/{path}": float(mean) for path, mean in zip(self._kernels, means, strict=True)}
        for path, variable in self._kernels.items():
            row[f"weight_norm/{path}"] = float(np.linalg.norm(variable.numpy()))
            row[f"near_zero/{path}"] = float(np.mean(np.abs(variable.numpy()) < NEAR_ZERO))
        for path, variable in self._model.named_variables().items():
            if path.split("/")[-1] in ("moving_mean", "moving_variance"):
                row[f"moving_rms/{path}"] = float(np.sqrt(np.mean(np.square(variable.numpy()))))
        return row
