"""Which numbers are stored and computed in which format, and the loss scale that float16 needs.

There is no global policy: a model is built with a compute dtype and hands it to its layers.
"""

import dataclasses

import tensorflow as tf

from tfcore.context import part_of_mean
from tfcore.module import Module


@dataclasses.dataclass(frozen=True)
class Policy:
    """Formats of a run: `compute` for activations and products; `scaled` asks for a LossScale."""

    name: str
    compute: tf.DType
    scaled: bool = False


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("float32", tf.float32),
        Policy("mixed_bfloat16", tf.bfloat16),
        Policy("mixed_float16", tf.float16, scaled=True),
    )
}


def variable_dtype(dtype: tf.DType) -> tf.DType:
    """The dtype in which weights are stored: float32, or float64 where everything is computed in float64."""
    return tf.float64 if dtype == tf.float64 else tf.float32


# Statistics, losses and softmax need the same floor under their precision as stored weights do.
statistics_dtype = variable_dtype


class Unscaled(Module):
    """The loss scale of formats that reach as far as float32: nothing is scaled, and no step is skipped."""

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """Return the loss () whose gradients are taken."""
        return loss

    def unscale(self, gradients: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the gradients of the loss itself."""
        return gradients

    def condition(self, finite: tf.Tensor) -> tf.Tensor | None:
        """Return where to update the weights, () bool, or None: always. `finite` () bool: whether all gradients are."""
        return None

    def counted(self, sums: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return which of a batch's sums of "loss" and other metrics count."""
        return sums

    def keep(self, variables: dict[str, tf.Variable]) -> dict[str, tf.Tensor]:
        """Return what `put_back` will need of variables that a forward pass is going to move."""
        return {}

    def put_back(self, variables: dict[str, tf.Variable], kept: dict[str, tf.Tensor], finite: tf.Tensor) -> None:
        """Undo what the forward pass of a skipped step has moved."""

    def update(self, finite: tf.Tensor) -> tf.Tensor:
        """Follow a step; return () bool: whether the training may go on."""
        return finite

    def columns(self) -> dict[str, float | int]:
        """Return what an epoch's row of the history says."""
        return {}


class LossScale(Unscaled):
    """Dynamic loss scale (Micikevicius et al. 2018, section 3.2): keeps small float16 gradients from becoming zero.

    The loss is multiplied by `scale` before the backward pass and the gradients divided by it afterwards. After
    `growth_steps` clean steps the scale doubles; at a gradient that is not finite the step is skipped, which leaves
    nothing behind, and the scale halves. Unlike Keras's it stays within [`floor`, `ceiling`], so that one bad batch
    cannot drive it to zero; an overflow at the floor is an error.
    """

    floor, ceiling = 1.0, 2.0**24

    def __init__(self, initial: float = 2.0**15, growth_steps: int = 2000):
        super().__init__()
        self.growth_steps = growth_steps
        self.scale = tf.Variable(initial, dtype=tf.float32, trainable=False, name="scale")
        self.clean_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="clean_steps")
        self.skipped_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="skipped_steps")

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        return loss * self.scale

    def unscale(self, gradients: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: gradient / tf.cast(self.scale, gradient.dtype) for name, gradient in gradients.items()}

    def condition(self, finite: tf.Tensor) -> tf.Tensor | None:
        return finite

    def counted(self, sums: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # A batch that overflows on the way forward has no loss.
        counted = tf.math.is_finite(sums["loss"])
        return {name: tf.where(counted, value, tf.zeros_like(value)) for name, value in sums.items()}

    def keep(self, variables: dict[str, tf.Variable]) -> dict[str, tf.Tensor]:
        return {path: part_of_mean(tf.identity(variable)) for path, variable in variables.items()}

    def put_back(self, variables: dict[str, tf.Variable], kept: dict[str, tf.Tensor], finite: tf.Tensor) -> None:
        for path, value in kept.items():
            variables[path].assign(tf.where(finite, variables[path], value))

    def update(self, finite: tf.Tensor) -> tf.Tensor:
        # tf.where, not tf.cond: both sides are a few scalars, and XLA and replicas need no branch.
        sound = finite | (self.scale > self.floor)
        grow = self.clean_steps + 1 >= self.growth_steps
        grown = tf.minimum(self.scale * 2.0, self.ceiling)
        shrunk = tf.maximum(self.scale / 2.0, self.floor)
        self.scale.assign(tf.where(finite, tf.where(grow, grown, self.scale), shrunk))
        self.clean_steps.assign(tf.where(finite & ~grow, self.clean_steps + 1, 0))
        self.skipped_steps.assign_add(tf.cast(~finite, tf.int64))
        return sound

    def columns(self) -> dict[str, float | int]:
        return {"loss_scale": float(self.scale.numpy()), "skipped_steps": int(self.skipped_steps.numpy())}


UNSCALED = Unscaled()


def all_finite(gradients: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return () bool: whether no gradient holds a NaN or an infinity."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients.values()])
