"""Changes of whole examples before a model sees them: shifted, mirrored, partly erased, mixed with another.

What changes is given, drawn by `tfcore.layers.mixing`. Glossary: B batch, H W C image; the partner of example i of a
batch is example B − 1 − i.
"""

import functools

import numpy as np
import tensorflow as tf

QUANTILES = 4096  # of Beta(α, α), between which a line is drawn


def shift_and_mirror(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, flips: tf.Tensor) -> tf.Tensor:
    """Move each image (B, H, W, C) by whole pixels, (B,) and (B,), then mirror it where `flips` (B,) says so.

        y[b, i, j] = x[b, ρ(i + rows[b]), ρ(j' + columns[b])]        j' = W − 1 − j if flips[b], else j

    with the reflection ρ about the outer edge of the last pixel (c b a | a b c). It is the crop of an image that was
    padded by reflection (He et al. 2016, section 4.2, who pad by zeros), without the larger image. Shifts may be as
    large as the image.
    """
    _, height, width, _ = images.shape
    place = tf.range(width)
    place = tf.where(flips[:, None], width - 1 - place, place)  # (B, W)
    images = tf.gather(images, _reflected(tf.range(height) + rows[:, None], height), axis=1, batch_dims=1)
    return tf.gather(images, _reflected(place + columns[:, None], width), axis=2, batch_dims=1)


def _reflected(places: tf.Tensor, size: int) -> tf.Tensor:
    """Whole places −size .. 2·size − 1, folded into 0 .. size − 1."""
    places = tf.where(places < 0, -1 - places, places)
    return tf.where(places >= size, 2 * size - 1 - places, places)


def erase(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, *, size: int) -> tf.Tensor:
    """Fill a square of each image (B, H, W, C) with the image's mean colour; the square's centre is given, (B,), (B,).

    Cutout (DeVries and Taylor 2017, arXiv 1708.04552): the square of `size` pixels is clipped at the borders. They
    fill with zeros of normalized images, the mean of all; the mean of the image needs no statistics of a data set.
    """
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)  # (B, 1, 1, C)
    return tf.where(inside(images.shape[1:3], rows, columns, tf.constant(size), tf.constant(size)), mean, images)


def inside(
    shape: tuple[int, int], rows: tf.Tensor, columns: tf.Tensor, heights: tf.Tensor, widths: tf.Tensor
) -> tf.Tensor:
    """Return which pixels lie in a box of whole height and width around a centre: (B,) each -> (B, H, W, 1) bool.

    The box begins half its size before the centre, rounded down, and is clipped at the borders.
    """

    def along(size: int, centres: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        begins = (centres - lengths // 2)[:, None]  # (B, 1)
        places = tf.range(size)
        return (places >= begins) & (places < begins + tf.reshape(lengths, [-1, 1]))  # (B, size)

    return (along(shape[0], rows, heights)[:, :, None] & along(shape[1], columns, widths)[:, None, :])[..., None]


def blend(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """w · x + (1 − w) · partner's x, with w (B, ...) that broadcasts: (B, ...) -> (B, ...).

    A weight for each example is mixup (Zhang et al. 2018, arXiv 1710.09412, equation 1), for images and for targets; a
    weight of 0 or 1 for each pixel is CutMix (Yun et al. 2019, arXiv 1905.04899, equation 1).
    """
    return weights * x + (1.0 - weights) * tf.reverse(x, [0])


def beta_quantile(uniform: tf.Tensor, alpha: float) -> tf.Tensor:
    """Return the λ of Beta(α, α) below which a share `uniform` of it lies, to about 1e-4: any shape, in [0, 1).

    So uniform numbers become mixing weights without a loop of rejections, which XLA could not compile.
    """
    table = tf.constant(_half_quantiles(alpha), uniform.dtype)
    half = tf.minimum(uniform, 1.0 - uniform) * 2.0  # of the lower half, λ < ½; the upper one is its mirror image
    place = half * QUANTILES
    below = tf.minimum(tf.cast(place, tf.int32), QUANTILES - 1)
    part = place - tf.cast(below, uniform.dtype)
    s = (1.0 - part) * tf.gather(table, below) + part * tf.gather(table, below + 1)
    low = tf.pow(s, 1.0 / alpha)
    return tf.where(uniform < 0.5, low, 1.0 - low)


@functools.cache
def _half_quantiles(alpha: float) -> np.ndarray:
    """λ^α at QUANTILES + 1 even shares of the lower half: of it the density is smooth, though λ's is not, for α < 1."""
    s = np.linspace(0.0, 0.5**alpha, 64 * QUANTILES + 1)
    density = (1.0 - s ** (1.0 / alpha)) ** (alpha - 1.0)  # dλ · λ^(α−1) = ds / α
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(np.linspace(0.0, mass[-1], QUANTILES + 1), mass, s)
