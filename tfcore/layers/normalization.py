"""Normalization layers. They compute in float32 at least and return the compute dtype."""

import tensorflow as tf

from tfcore.context import batch_mean, current_share, is_xla
from tfcore.module import Module
from tfcore.ops.normalization import batch_norm, batch_norm_tensorflow, layer_norm, moments, moving_average
from tfcore.precision import statistics_dtype, variable_dtype


class BatchNorm(Module):
    """Batch normalization of (..., channels) over all leading axes (Ioffe and Szegedy 2015), as Keras keeps it.

    Training normalizes with the batch's own mean and population variance and moves the running statistics towards
    them; inference uses the running statistics. Where replicas divide the batch, each normalizes with the statistics of
    its share, or, if they synchronize (`tfcore.context`), of the whole batch.

    Weights: `gamma` (channels,) ones, `beta` zeros; not trained: `moving_mean` zeros, `moving_variance` ones.

    Args:
        formulation: in training, "formulas" computes as `tfcore.ops.normalization` writes it; "auto" takes TensorFlow's
            operation (`batch_norm_tensorflow`) where it can: for (B, H, W, C) and (B, T, C), normalized by the
            statistics of what is here, unless XLA compiles.

    Raises:
        ValueError: for channels below 1, or an unknown formulation.
    """

    def __init__(
        self,
        *,
        channels: int,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        formulation: str = "formulas",
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if channels < 1:
            raise ValueError(f"BatchNorm: channels must be at least 1, got {channels}")
        if formulation not in ("formulas", "auto"):
            raise ValueError(f"BatchNorm: formulation must be one of formulas, auto, got {formulation!r}")
        self.momentum, self.epsilon, self.formulation, self.dtype = momentum, epsilon, formulation, dtype
        zeros, ones = tf.zeros([channels], variable_dtype(dtype)), tf.ones([channels], variable_dtype(dtype))
        self.gamma = tf.Variable(ones, name="gamma")
        self.beta = tf.Variable(zeros, name="beta")
        self.moving_mean = tf.Variable(zeros, trainable=False, name="moving_mean")
        self.moving_variance = tf.Variable(ones, trainable=False, name="moving_variance")

    def __call__(self, x: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        x = tf.cast(x, statistics_dtype(self.dtype))
        if training and self._by_tensorflow(x):
            y, mean, variance = batch_norm_tensorflow(x, self.gamma, self.beta, epsilon=self.epsilon)
        elif training:
            mean, variance = moments(x, mean_of=batch_mean)  # (C,), (C,)
            y = batch_norm(x, mean, variance, self.gamma, self.beta, epsilon=self.epsilon)  # (..., C)
        else:
            # Read here: a variable handed on could be read after another step has changed it.
            mean, variance = tf.identity(self.moving_mean), tf.identity(self.moving_variance)
            y = batch_norm(x, mean, variance, self.gamma, self.beta, epsilon=self.epsilon)  # (..., C)
        if training:
            self.moving_mean.assign(moving_average(self.moving_mean, mean, self.momentum))
            self.moving_variance.assign(moving_average(self.moving_variance, variance, self.momentum))
        return tf.cast(y, self.dtype)

    def _by_tensorflow(self, x: tf.Tensor) -> bool:
        share = current_share()
        own = share is None or share.sum is None  # the statistics
        return self.formulation == "auto" and x.shape.rank in (3, 4) and own and not is_xla()


class LayerNorm(Module):
    """Layer normalization of each (..., width) over its last axis (Ba et al. 2016).

    Weights: `gamma` (width,) ones, `beta` (width,) zeros. Raises ValueError for a width below 1.
    """

    def __init__(self, *, width: int, epsilon: float = 1e-6, dtype: tf.DType = tf.float32):
        super().__init__()
        if width < 1:
            raise ValueError(f"LayerNorm: width must be at least 1, got {width}")
        self.epsilon, self.dtype = epsilon, dtype
        self.gamma = tf.Variable(tf.ones([width], variable_dtype(dtype)), name="gamma")
        self.beta = tf.Variable(tf.zeros([width], variable_dtype(dtype)), name="beta")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, statistics_dtype(self.dtype))
        return tf.cast(layer_norm(x, self.gamma, self.beta, epsilon=self.epsilon), self.dtype)  # (..., width)

    def constant(self) -> tf.Tensor:
        """Return β (1,), the layer's output for every input where it normalizes over one feature; as it is stored.

        Raises:
            ValueError: for another width, where the output depends on the input.
        """
        if self.beta.shape[0] != 1:
            raise ValueError(f"LayerNorm: only over one feature is it constant, not over {self.beta.shape[0]}")
        return tf.convert_to_tensor(self.beta)
