"""Resampling of images: resize, flip, rotate and zoom, with parameters of its own for each image.

Every transform *pulls*: output pixel p takes the value that the input has at a coordinate t(p), between pixels by
bilinear interpolation. Pixel centres lie at whole coordinates 0 .. n − 1, and an image goes on beyond its borders by
reflection about the outer edge of its last pixel (d c b a | a b c d | d c b a).

Glossary: B batch, H W C image, H' W' output size, n and n' size of the input and output along an axis, (r, c) row and
column coordinate, b either B or 1 (the same coordinates for all images). Coordinates and weights are computed in
float32 at least (float64 for float64 images), values are rounded to the image's dtype once, at the end of each op.

`warp` is all four in a row, in two formulations. Milliseconds of a forward pass for 64 images of 32×32×3 to 72×72
(`RandomAugmentation(72, site=0)` in a tf.function, drawing its parameters included) on 2 cores of an AMD EPYC, no GPU;
medians of 5, the formulations alternating in one process, ratios with their range over three such processes:

    with all four      chain   fused   chain / fused        without rotation   chain   fused   chain / fused
    graph mode          20.6    11.8   1.8 (1.5 .. 2.0)     graph mode          10.8     4.8   2.4 (2.2 .. 3.0)
    XLA                  9.0     1.9   4.9 (4.3 .. 6.8)     XLA                  5.9     1.8   3.2 (2.5 .. 4.3)
"""

from typing import NamedTuple

import tensorflow as tf

from tfcore.precision import statistics_dtype


class Warp(NamedTuple):
    """What `warp` does to each image, all of shape (B,); a transform whose parameters are None is left out."""

    flips: tf.Tensor | None = None  # bool: mirror left and right
    angles: tf.Tensor | None = None  # radians
    height_factors: tf.Tensor | None = None  # above 1 the image shrinks (zooms out), below 1 it grows
    width_factors: tf.Tensor | None = None


def resize(x: tf.Tensor, *, size: int | tuple[int, int]) -> tf.Tensor:
    """t(i) = (i + ½)·n / n' − ½ along both axes: (B, H, W, C) -> (B, H', W', C).

    `size` is (H', W'), or one number for both. No antialiasing: an image that shrinks to less than half skips pixels.
    (As keras.layers.Resizing, and tf.image.resize with half-pixel centres.)

    Raises:
        ValueError: for an image that is not (B, H, W, C) floating point, or a size that is not whole and positive.
    """
    _check_image(x)
    _, height, width, _ = x.shape
    new_height, new_width = check_size(size)
    if (height, width) == (new_height, new_width):
        return x
    rows, columns = _pixel_grid(new_height, new_width, x)  # (1, H', 1), (1, 1, W')
    return _sample_axes(x, _resized(rows, height, new_height), _resized(columns, width, new_width))  # (B, H', W', C)


def flip(x: tf.Tensor, flips: tf.Tensor) -> tf.Tensor:
    """t(j) = W − 1 − j along the columns of those images whose `flips` (B,) is True: (B, H, W, C) -> same.

    Raises:
        ValueError: for an image that is not (B, H, W, C) floating point, or flips that are not (B,).
    """
    _check_image(x)
    flips = _per_image("flips", flips, x, tf.bool)  # (B, 1, 1)
    return tf.where(flips[..., None], tf.reverse(x, axis=[2]), x)  # (B, 1, 1, 1) ? (B, H, W, C) : (B, H, W, C)


def rotate(x: tf.Tensor, angles: tf.Tensor) -> tf.Tensor:
    """Turn each image about its centre by `angles` (B,) in radians: (B, H, W, C) -> same.

        t(i, j) = (sin θ · (j − q) + cos θ · (i − p) + p,  cos θ · (j − q) − sin θ · (i − p) + q)

    with the centre (p, q) = ((H − 1) / 2, (W − 1) / 2). A positive angle turns the picture counterclockwise. (As
    keras.layers.RandomRotation with fill_mode "reflect"; its angles are in turns.)

    Raises:
        ValueError: for an image that is not (B, H, W, C) floating point, or angles that are not (B,).
    """
    _check_image(x)
    height, width = x.shape[1:3]
    rows, columns = _pixel_grid(height, width, x)  # (1, H, 1), (1, 1, W)
    return _sample(x, *_rotated(rows, columns, angles, x, height, width))  # (B, H, W, C)


def zoom(x: tf.Tensor, height_factors: tf.Tensor, width_factors: tf.Tensor) -> tf.Tensor:
    """t(i) = z·i + (1 − z)·(n − 1) / 2 along each axis, by the factors z, (B,) each: (B, H, W, C) -> same.

    A factor above 1 zooms out: the image shrinks and its reflections come in at the borders. (As
    keras.layers.RandomZoom, fill_mode "reflect", which adds 1 to its own factors first.)

    Raises:
        ValueError: for an image that is not (B, H, W, C) floating point, or factors that are not (B,).
    """
    _check_image(x)
    height, width = x.shape[1:3]
    rows, columns = _pixel_grid(height, width, x)  # (1, H, 1), (1, 1, W)
    return _sample_axes(x, *_zoomed(rows, columns, height_factors, width_factors, x, height, width))  # (B, H, W, C)


def warp(x: tf.Tensor, parameters: Warp, *, size: int | tuple[int, int], formulation: str = "chain") -> tf.Tensor:
    """Resize, flip, rotate and zoom, in this order: (B, H, W, C) -> (B, H', W', C).

    `formulation`: "chain" makes an image after each transform, as a stack of Keras layers does; "fused" composes the
    coordinates and reads the source image once. Both move the picture alike. They differ where the chain interpolates
    more than once, and so blurs more: not at all if, of resize, rotate and zoom, one alone does anything.

    Raises:
        ValueError: for an image that is not (B, H, W, C) floating point, a size that is not whole and positive,
            parameters that are not (B,), height factors without width factors, or an unknown formulation.
    """
    if formulation not in FORMULATIONS:
        raise ValueError(f"formulation must be one of {', '.join(FORMULATIONS)}, got {formulation!r}")
    return FORMULATIONS[formulation](x, parameters, size)


def warp_chain(x: tf.Tensor, parameters: Warp, size: int | tuple[int, int]) -> tf.Tensor:
    """One image after each transform."""
    x = resize(x, size=size)  # (B, H', W', C)
    if parameters.flips is not None:
        x = flip(x, parameters.flips)  # (B, H', W', C)
    if parameters.angles is not None:
        x = rotate(x, parameters.angles)  # (B, H', W', C)
    if _zooms(parameters):
        x = zoom(x, parameters.height_factors, parameters.width_factors)  # (B, H', W', C)
    return x


def warp_fused(x: tf.Tensor, parameters: Warp, size: int | tuple[int, int]) -> tf.Tensor:
    """y[p] = x(resized(flipped(ρ(rotated(ρ(zoomed(p))))))), the source read once, between its own pixels.

    The chain's last transform comes first here: it says where in the image before it a pixel comes from. Each
    coordinate is reflected (ρ) into the image of its own stage, exactly where the chain reflects it.
    """
    _check_image(x)
    height, width = check_size(size)
    rows, columns = _pixel_grid(height, width, x)  # (1, H', 1), (1, 1, W')
    if _zooms(parameters):
        factors = parameters.height_factors, parameters.width_factors
        rows, columns = _zoomed(rows, columns, *factors, x, height, width)  # (B, H', 1), (B, 1, W')
    if parameters.angles is not None:
        rows, columns = _rotated(rows, columns, parameters.angles, x, height, width)  # (B, H', W') twice
    if parameters.flips is not None:
        flips = _per_image("flips", parameters.flips, x, tf.bool)  # (B, 1, 1)
        columns = tf.where(flips, width - 1 - columns, columns)  # (B, H' or 1, W')
    rows, columns = _resized(rows, x.shape[1], height), _resized(columns, x.shape[2], width)  # (b, ., .) as before
    # Without a rotation the rows still depend on i alone and the columns on j: graph mode gains most by that.
    return (_sample_axes if parameters.angles is None else _sample)(x, rows, columns)  # (B, H', W', C)


FORMULATIONS = {"chain": warp_chain, "fused": warp_fused}


def check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a size given as one number or two. Raises ValueError unless whole and positive."""
    pair = (size, size) if isinstance(size, int) else size
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"size must be a whole number above 0 or two of them, such as 72 or (72, 72), got {size!r}")
    height, width = pair
    return height, width


def _check_image(x: tf.Tensor) -> None:
    if x.shape.rank != 4 or not x.dtype.is_floating:
        raise ValueError(
            "an image batch must be floating point of shape (B, H, W, C), such as tf.ones((64, 32, 32, 3)), got "
            f"{x.dtype.name} of shape {tuple(x.shape)}"
        )


def _zooms(parameters: Warp) -> bool:
    return parameters.height_factors is not None or parameters.width_factors is not None


def _per_image(name: str, values: tf.Tensor | None, x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """(B,) -> (B, 1, 1), checked against the images' batch size where both are known."""
    values = None if values is None else tf.cast(values, dtype)
    if values is None or not values.shape.is_compatible_with(x.shape[:1]):
        raise ValueError(
            f"{name} must hold one number for each image, shape ({x.shape[0]},), "
            f"got {None if values is None else f'shape {tuple(values.shape)}'}"
        )
    return values[:, None, None]


def _pixel_grid(height: int, width: int, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows (1, H, 1) and columns (1, 1, W) of an image's pixels."""
    dtype = statistics_dtype(x.dtype)
    return tf.range(height, dtype=dtype)[None, :, None], tf.range(width, dtype=dtype)[None, None, :]


def _resized(coordinates: tf.Tensor, size: int, new_size: int) -> tf.Tensor:
    """Coordinates (b, ., .) in an image of `new_size` -> coordinates in the image of `size` that it was made from."""
    # Half a pixel beyond the border at most, where the reflection is the border pixel itself.
    return _reflected((coordinates + 0.5) * (size / new_size) - 0.5, size)


def _zoomed(rows, columns, height_factors, width_factors, x, height, width) -> tuple[tf.Tensor, tf.Tensor]:
    """(b, H, 1), (b, 1, W) -> (B, H, 1), (B, 1, W)."""
    pulled = []
    for name, coordinates, factors, size in (
        ("height_factors", rows, height_factors, height),
        ("width_factors", columns, width_factors, width),
    ):
        factors = _per_image(name, factors, x, coordinates.dtype)  # (B, 1, 1)
        pulled.append(_reflected(factors * coordinates + (size - 1) / 2 * (1 - factors), size))
    return tuple(pulled)


def _rotated(rows, columns, angles, x, height, width) -> tuple[tf.Tensor, tf.Tensor]:
    """(b, H, 1), (b, 1, W) -> (B, H, W), (B, H, W)."""
    angles = _per_image("angles", angles, x, rows.dtype)  # (B, 1, 1)
    cos, sin = tf.cos(angles), tf.sin(angles)
    p, q = (height - 1) / 2, (width - 1) / 2
    # Multiplied out as in Keras, so that float32 rounds alike: near a steep edge the last digit can be seen.
    columns, rows = (
        cos * columns - sin * rows + (q - q * cos + p * sin),
        sin * columns + cos * rows + (p - q * sin - p * cos),
    )  # (B, H, W), (B, H, W)
    return _reflected(rows, height), _reflected(columns, width)


def _reflected(coordinates: tf.Tensor, size: int) -> tf.Tensor:
    """ρ(c) in 0 .. n − 1: the wave 0 0 1 2 … n−1 n−1 … 2 1 0 0 of period 2n, its mirrors at −½ and n − ½."""
    # Written so that a coordinate inside the image passes every line unrounded.
    c = tf.maximum(coordinates, -1 - coordinates)  # the part left of −½ comes over to the right
    c -= 2 * size * tf.floor(c / (2 * size))
    c = tf.minimum(c, 2 * size - 1 - c)
    return tf.clip_by_value(c, 0, size - 1)  # half a pixel beyond a border centre there is nothing but that pixel


def _neighbours(coordinates: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The two pixels around each coordinate and the weight of the second, all of the coordinates' shape."""
    low = tf.floor(coordinates)
    first = tf.cast(low, tf.int32)
    return first, tf.minimum(first + 1, size - 1), coordinates - low


def _sample(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Bilinear interpolation at any coordinates: (B, H, W, C), (B, H', W') twice -> (B, H', W', C)."""
    _, height, width, channels = x.shape
    pixels = tf.reshape(x, [-1, height * width, channels])  # (B, H·W, C)
    top, bottom, down = _neighbours(rows, height)  # (B, H', W') each
    left, right, across = _neighbours(columns, width)  # (B, H', W') each

    def tap(row, column):
        values = tf.gather(pixels, row * width + column, batch_dims=1)  # (B, H·W, C) at (B, H', W') -> (B, H', W', C)
        return tf.cast(values, rows.dtype)

    down, across = down[..., None], across[..., None]  # (B, H', W', 1)
    above = (1 - across) * tap(top, left) + across * tap(top, right)  # (B, H', W', C)
    below = (1 - across) * tap(bottom, left) + across * tap(bottom, right)  # (B, H', W', C)
    return tf.cast((1 - down) * above + down * below, x.dtype)


def _sample_axes(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Bilinear interpolation on a grid: (B, H, W, C), (b, H', 1), (b, 1, W') -> (B, H', W', C).

    One axis after the other: the same as a product with an (n', n) matrix of weights along each axis. Two reads an axis
    beat the matrix under XLA on CPU, and a GPU's matrix units would round the weights to TF32.
    """
    y = _sample_axis(tf.cast(x, rows.dtype), rows[:, :, 0], axis=1)  # (B, H', W, C)
    return tf.cast(_sample_axis(y, columns[:, 0, :], axis=2), x.dtype)  # (B, H', W', C)


def _sample_axis(x: tf.Tensor, coordinates: tf.Tensor, axis: int) -> tf.Tensor:
    """Linear interpolation along `axis` 1 or 2 at coordinates (b, n')."""
    first, second, weight = _neighbours(coordinates, x.shape[axis])  # (b, n') each
    shape = [-1, 1, 1, 1]
    shape[axis] = coordinates.shape[1]
    weight = tf.reshape(weight, shape)  # (b, n', 1, 1) or (b, 1, n', 1)

    def tap(index):
        if coordinates.shape[0] == 1:  # shared by all images
            return tf.gather(x, index[0], axis=axis)  # (B, …, n, …, C) at (n',) -> (B, …, n', …, C)
        return tf.gather(x, index, axis=axis, batch_dims=1)  # (B, …, n, …, C) at (B, n') -> (B, …, n', …, C)

    return (1 - weight) * tap(first) + weight * tap(second)
