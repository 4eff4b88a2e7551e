"""Optimizers as classes: they keep the slots and the learning rate; the formulas stand in `updates.py`."""

import tensorflow as tf

from tfcore.module import Module
from tfcore.optimizers import updates


class Adam(Module):
    """Adam (Kingma and Ba 2015) for a fixed set of variables; defaults as in Keras.

    Args:
        variables: the parameters by name; slots `m` and `v` bear the same names.
        learning_rate: step size α; kept in a variable, so that a schedule never retraces a step.

    Raises:
        ValueError: for a learning rate or ε that is not positive, or a β outside [0, 1).
    """

    def __init__(
        self,
        variables: dict[str, tf.Variable],
        *,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ):
        super().__init__()
        for name, value in (("learning_rate", learning_rate), ("epsilon", epsilon)):
            if not value > 0:
                raise ValueError(f"Adam: {name} must be positive, got {value}")
        for name, value in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= value < 1:
                raise ValueError(f"Adam: {name} must be at least 0 and below 1, got {value}")
        self._variables = variables  # the model's, not ours: kept out of named_variables
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        widest = tf.float64 if any(variable.dtype == tf.float64 for variable in variables.values()) else tf.float32
        self.learning_rate = tf.Variable(learning_rate, dtype=widest, trainable=False, name="learning_rate")
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False, name="iterations")
        self.m = {name: _slot(variable, "m") for name, variable in variables.items()}
        self.v = {name: _slot(variable, "v") for name, variable in variables.items()}

    def apply(self, gradients: dict[str, tf.Tensor], *, condition: tf.Tensor | None = None) -> None:
        """Update every variable by its gradient of the same name, in place.

        `condition` () bool: where it is False, variables and slots stay as they are (a step that loss scaling skips).

        Raises:
            ValueError: if the gradients' names are not exactly the variables'.
        """
        if gradients.keys() != self._variables.keys():
            missing = sorted(self._variables.keys() ^ gradients.keys())
            raise ValueError(f"Adam: a gradient for each variable and no other, but these differ: {', '.join(missing)}")
        t = self.iterations + 1
        for name, variable in self._variables.items():
            gradient = tf.cast(gradients[name], variable.dtype)
            delta, m, v = updates.adam(
                gradient,
                self.m[name],
                self.v[name],
                t=t,
                alpha=tf.cast(self.learning_rate, variable.dtype),
                beta_1=self.beta_1,
                beta_2=self.beta_2,
                epsilon=self.epsilon,
            )
            for target, value in ((variable, variable + delta), (self.m[name], m), (self.v[name], v)):
                target.assign(value if condition is None else tf.where(condition, value, target))
        self.iterations.assign(t if condition is None else tf.where(condition, t, self.iterations))


def _slot(variable: tf.Variable, name: str) -> tf.Variable:
    return tf.Variable(tf.zeros_like(variable), trainable=False, name=name)
