"""The layers in front of an image model: normalization by the train set, resizing, random augmentation.

Glossary: B batch, H W C image, H' W' the size that the model sees.
"""

import numpy as np
import tensorflow as tf

from tfcore import random
from tfcore.module import Module
from tfcore.ops.resampling import FORMULATIONS, Warp, check_size, resize, warp
from tfcore.precision import statistics_dtype, variable_dtype


class Normalization(Module):
    """y = (x − mean) / max(√variance, 1e-7) for each channel of (B, H, W, channels), whole-number pixels included.

    Weights, not trained: `mean` (channels,) zeros and `variance` ones, until `fit` sets them or a checkpoint does.

    Raises:
        ValueError: for channels below 1, or images with another number of channels.
    """

    # Keras's floor under the standard deviation: a constant channel gives zeros, not NaN.
    epsilon = 1e-7

    def __init__(self, *, channels: int = 3, dtype: tf.DType = tf.float32):
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(
                f"Normalization: channels must be a whole number of at least 1, such as 3, got {channels!r}"
            )
        self.channels, self.dtype = channels, dtype
        self.mean = tf.Variable(tf.zeros([channels], variable_dtype(dtype)), trainable=False, name="mean")
        self.variance = tf.Variable(tf.ones([channels], variable_dtype(dtype)), trainable=False, name="variance")

    def fit(self, images: np.ndarray) -> None:
        """Set both weights from train images (N, H, W, channels), by `channel_statistics`; refuses what it refuses."""
        _check_channels("Normalization.fit", images.shape, self.channels)
        mean, variance = channel_statistics(images)
        self.mean.assign(mean)
        self.variance.assign(variance)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        _check_channels("Normalization", x.shape, self.channels)
        x = tf.cast(x, statistics_dtype(self.dtype))
        deviation = tf.maximum(tf.sqrt(self.variance), self.epsilon)  # (C,)
        return tf.cast((x - self.mean) / deviation, self.dtype)


def channel_statistics(images: np.ndarray, *, chunk: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance of each channel, float64: (N, H, W, C) -> (C,), (C,).

    Two passes over `chunk` images at a time: a float64 copy of a whole train set would take gigabytes.

    Raises:
        ValueError: for images that are not (N, H, W, C), none at all, or one (named by its index) with NaN or infinity.
    """
    if images.ndim != 4 or images.size == 0:
        raise ValueError(f"images must be a filled array (N, H, W, C), such as (45000, 32, 32, 3), got {images.shape}")
    count, axes = images.size // images.shape[3], (0, 1, 2)
    starts = range(0, len(images), chunk)
    total = np.zeros(images.shape[3])
    for start in starts:
        part = images[start : start + chunk]
        finite = np.isfinite(part).all(axis=(1, 2, 3))  # (chunk,)
        if not finite.all():
            raise ValueError(
                f"image {start + int(np.argmin(finite))} holds a NaN or an infinity: leave it out, or mend it, say by "
                "numpy.nan_to_num"
            )
        total += part.sum(axis=axes, dtype=np.float64)
    mean = total / count  # (C,)
    squares = sum(np.square(images[start : start + chunk] - mean).sum(axis=axes) for start in starts)  # (C,)
    return mean, squares / count


class Resizing(Module):
    """Bilinear resizing to `size`, one number or (height, width): (B, H, W, C) -> (B, H', W', C).

    Raises:
        ValueError: for a size that is not whole and positive.
    """

    def __init__(self, size: int | tuple[int, int], *, dtype: tf.DType = tf.float32):
        super().__init__()
        self.size, self.dtype = check_size(size), dtype

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return resize(tf.cast(x, self.dtype), size=self.size)


class RandomAugmentation(Module):
    """Resize; in training also flip, rotate and zoom each image by random amounts: (B, H, W, C) -> (B, H', W', C).

    Uniform and independent for each image: a horizontal flip with probability ½, an angle within ± rotation_factor
    turns, and a zoom factor for each axis within 1 ± height_factor and 1 ± width_factor (above 1 zooms out). Borders
    reflect. Inference resizes and does nothing else.

    What happens to image i depends on (key, site, i) alone, not on the batch around it.

    Args:
        size: what the model sees, one number or (height, width).
        rotation_factor: in turns; 0 leaves rotation out.
        height_factor: 0 for both factors leaves zoom out.
        width_factor: as `height_factor`.
        site: tells this layer's random numbers from every other layer's under the same step key.
        formulation: "chain" (faithful to Keras's stack of layers) or "fused", see `tfcore.ops.resampling.warp`.

    Raises:
        ValueError: for a size that is not whole and positive, a rotation factor outside 0 .. 1, a zoom factor that is
            not at least 0 and below 1, an unknown formulation; when called in training without a key.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        rotation_factor: float = 0.02,
        height_factor: float = 0.2,
        width_factor: float = 0.2,
        site: int,
        formulation: str = "chain",
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if not _is_number(rotation_factor) or not 0 <= rotation_factor <= 1:
            raise ValueError(
                "RandomAugmentation: rotation_factor must lie in 0 .. 1 (turns to either side), such as 0.02, "
                f"got {rotation_factor!r}"
            )
        for name, factor in (("height_factor", height_factor), ("width_factor", width_factor)):
            if not _is_number(factor) or not 0 <= factor < 1:
                raise ValueError(
                    f"RandomAugmentation: {name} must be at least 0 and below 1, such as 0.2, got {factor!r}"
                )
        if formulation not in FORMULATIONS:
            raise ValueError(
                f"RandomAugmentation: formulation must be one of {', '.join(FORMULATIONS)}, got {formulation!r}"
            )
        self.size, self.site, self.formulation, self.dtype = check_size(size), site, formulation, dtype
        self.rotation_factor, self.height_factor, self.width_factor = rotation_factor, height_factor, width_factor

    def draw(self, key: tf.Tensor, count: int | tf.Tensor) -> Warp:
        """Return the parameters of images 0 .. count − 1 of the batch under a step's key.

        Philox counts: number i of a stream is a function of the key and of i, however many are drawn. So a longer or
        shorter batch gives image i the same parameters, and no loop over keys is needed.
        """
        key = random.fold_in(key, self.site)

        def uniform(stream, middle, spread):
            return random.uniform(random.fold_in(key, stream), [count], middle - spread, middle + spread)  # (B,)

        zooming = self.height_factor > 0 or self.width_factor > 0
        return Warp(
            flips=random.keep_mask(random.fold_in(key, 0), [count], 0.5),  # (B,)
            angles=uniform(1, 0.0, 2 * np.pi * self.rotation_factor) if self.rotation_factor else None,
            height_factors=uniform(2, 1.0, self.height_factor) if zooming else None,
            width_factors=uniform(3, 1.0, self.width_factor) if zooming else None,
        )

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = tf.cast(x, self.dtype)
        if not training:
            return resize(x, size=self.size)  # (B, H', W', C)
        if key is None:
            raise ValueError("RandomAugmentation: training needs a key, such as tfcore.random.make_key(seed)")
        parameters = self.draw(key, tf.shape(x)[0])
        return warp(x, parameters, size=self.size, formulation=self.formulation)  # (B, H', W', C)


def _check_channels(who: str, shape: tuple[int, ...] | tf.TensorShape, channels: int) -> None:
    if len(shape) == 0 or shape[-1] != channels:
        raise ValueError(f"{who}: images must have {channels} channels, shape (…, {channels}), got {tuple(shape)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
