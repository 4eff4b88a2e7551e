"""Entries of resampling and augmentation beside their definition, written pixel by pixel.

Keras's own operations compute rotation and zoom in float32 alone and give no true gradient; their values stand in
`tests/test_augmentation.py`. Here each transform is a matrix that takes one image's pixels to the other's, filled by
plain loops over scalars; being linear in the image, it gives the gradient too.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tests.catalog.entry import Case, Entry, random_array
from tfcore.layers.augmentation import Normalization, RandomAugmentation, Resizing
from tfcore.ops import resampling
from tfcore.ops.resampling import FORMULATIONS, Warp

BATCH, HEIGHT, WIDTH, CHANNELS = 3, 11, 7, 5
KEY = (3, 5)
# Steep enough that rotated and zoomed pixels come from several reflections of the image.
FLIPS, ANGLES = np.array([True, False, True]), np.array([0.11, -2.5, 1.3])
HEIGHT_FACTORS, WIDTH_FACTORS = np.array([0.83, 1.19, 3.7]), np.array([1.2, 0.31, 4.9])
ALL = Warp(FLIPS, ANGLES, HEIGHT_FACTORS, WIDTH_FACTORS)

Pull = Callable[[float, float], tuple[float, float]]


def reflected(c: float, n: int) -> float:
    """Where in 0 .. n − 1 a coordinate of the endlessly mirrored image lies."""
    distance = (c + 0.5) % (2 * n)  # from the mirror at −½
    if distance > n:
        distance = 2 * n - distance
    return min(max(distance - 0.5, 0.0), n - 1.0)


def pulls(parameters: Warp, i: int, source: tuple[int, int], size: tuple[int, int]) -> list[Pull]:
    """Image i's transforms, first applied first, each a map of an output pixel to an input coordinate."""
    (height, width), (p, q) = size, ((size[0] - 1) / 2, (size[1] - 1) / 2)

    def resized(r, c):
        return (r + 0.5) * source[0] / height - 0.5, (c + 0.5) * source[1] / width - 0.5

    def flipped(r, c):
        return r, width - 1 - c

    def rotated(r, c):
        # A picture turned by θ shows at a place what stood at that place turned back; rows grow downwards.
        cos, sin = math.cos(parameters.angles[i]), math.sin(parameters.angles[i])
        return sin * (c - q) + cos * (r - p) + p, cos * (c - q) - sin * (r - p) + q

    def zoomed(r, c):
        return parameters.height_factors[i] * (r - p) + p, parameters.width_factors[i] * (c - q) + q

    steps = [resized]
    if parameters.flips is not None and parameters.flips[i]:
        steps.append(flipped)
    if parameters.angles is not None:
        steps.append(rotated)
    if parameters.height_factors is not None:
        steps.append(zoomed)
    return steps


def matrix(pull: Pull, source: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(H'·W', H·W): the weight of each source pixel in each output pixel, by bilinear interpolation."""
    weights = np.zeros((*size, *source))
    for r in range(size[0]):
        for c in range(size[1]):
            row, column = pull(r, c)
            down = np.abs(np.arange(source[0]) - reflected(row, source[0]))
            across = np.abs(np.arange(source[1]) - reflected(column, source[1]))
            weights[r, c] = np.outer(np.maximum(0, 1 - down), np.maximum(0, 1 - across))
    return weights.reshape(size[0] * size[1], source[0] * source[1])


def chain_matrix(parameters: Warp, i: int, source: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The product of the transforms' matrices: an image after each."""
    product = np.eye(source[0] * source[1])
    for step, pull in enumerate(pulls(parameters, i, source, size)):
        product = matrix(pull, size if step else source, size) @ product
    return product


def fused_matrix(parameters: Warp, i: int, source: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The matrix of the composed coordinates, each reflected into the image of its own stage."""
    resized, *others = pulls(parameters, i, source, size)

    def composed(r, c):
        for pull in reversed(others):
            r, c = pull(r, c)
            r, c = reflected(r, size[0]), reflected(c, size[1])
        return resized(r, c)

    return matrix(composed, source, size)


MATRICES = {"chain": chain_matrix, "fused": fused_matrix}


def warped(x: tf.Tensor, parameters: Warp, size: tuple[int, int], formulation: str = "chain") -> tf.Tensor:
    """The definition of `warp`: each image's pixels times its own matrix."""
    source, batch = tuple(x.shape[1:3]), x.shape[0]
    weights = np.stack([MATRICES[formulation](parameters, i, source, size) for i in range(batch)])
    pixels = tf.reshape(x, [batch, source[0] * source[1], -1])  # (B, H·W, C)
    return tf.reshape(tf.constant(weights, x.dtype) @ pixels, [batch, *size, -1])  # (B, H', W', C)


def _image(dtype):
    return random_array((BATCH, HEIGHT, WIDTH, CHANNELS), dtype)


def _op(ours: Callable, parameters: Warp, size: tuple[int, int] = (HEIGHT, WIDTH), formulation: str = "chain"):
    return lambda dtype: Case(ours, lambda x: warped(x, parameters, size, formulation), (_image(dtype),))


def _resizes() -> list[Entry]:
    def entry(size):
        name = f"ops.resize {HEIGHT}×{WIDTH} to {size[0]}×{size[1]}"
        return Entry(name, (resampling.resize,), _op(lambda x: resampling.resize(x, size=size), Warp(), size))

    return [entry(size) for size in ((23, 17), (5, 3), (13, 5), (11, 7), (1, 29))]


def _warps() -> list[Entry]:
    def entry(formulation, words, parameters):
        size = (13, 17)

        def ours(x):
            return resampling.warp(x, parameters, size=size, formulation=formulation)

        proves = (resampling.warp, FORMULATIONS[formulation])
        return Entry(f"ops.warp[{formulation}] {words}", proves, _op(ours, parameters, size, formulation))

    return [
        entry(formulation, words, parameters)
        for formulation in FORMULATIONS
        for words, parameters in (
            ("resize", Warp()),
            ("resize flip", Warp(FLIPS)),
            ("resize rotate", Warp(angles=ANGLES)),
            ("resize flip zoom", ALL._replace(angles=None)),
            ("resize flip rotate zoom", ALL),
        )
    ]


def _normalization(dtype):
    mean, variance = random_array((CHANNELS,), dtype, seed=1), np.square(random_array((CHANNELS,), dtype, seed=2))
    variance[1] = 0  # a constant channel
    layer = Normalization(channels=CHANNELS, dtype=dtype)
    layer.mean.assign(mean)
    layer.variance.assign(variance)
    x = _image(dtype)
    x[..., 1] = mean[1]
    # Given to Keras's constructor the statistics would pass through float32.
    twin = keras.layers.Normalization(dtype=dtype.name)
    twin.build(x.shape)
    twin.mean, twin.variance = (tf.reshape(value, [1, 1, 1, -1]) for value in (layer.mean, layer.variance))
    return Case(layer, twin, (x,))


def _augmentation(dtype, formulation, size, **factors):
    layer = RandomAugmentation(size, site=4, formulation=formulation, dtype=dtype, **factors)
    drawn = layer.draw(tf.constant(KEY), BATCH)
    parameters = Warp(*(None if values is None else values.numpy().tolist() for values in drawn))
    return Case(
        lambda x: layer(x, training=True, key=tf.constant(KEY)),
        lambda x: warped(x, parameters, size, formulation),
        (_image(dtype),),
    )


def _augmentations() -> list[Entry]:
    def entry(formulation, words, factors):
        def case(dtype):
            return _augmentation(dtype, formulation, (13, 17), **factors)

        return Entry(f"layers.RandomAugmentation[{formulation}] {words}", (RandomAugmentation,), case)

    return [
        entry(formulation, words, factors)
        for formulation in FORMULATIONS
        for words, factors in (
            ("flip rotate zoom", {"rotation_factor": 0.3, "height_factor": 0.7}),
            ("flip zoom", {"rotation_factor": 0}),
        )
    ]


ENTRIES = [
    *_resizes(),
    Entry("ops.flip", (resampling.flip,), _op(lambda x: resampling.flip(x, FLIPS), Warp(FLIPS))),
    Entry("ops.rotate", (resampling.rotate,), _op(lambda x: resampling.rotate(x, ANGLES), Warp(angles=ANGLES))),
    Entry(
        "ops.zoom",
        (resampling.zoom,),
        _op(lambda x: resampling.zoom(x, HEIGHT_FACTORS, WIDTH_FACTORS), ALL._replace(flips=None, angles=None)),
    ),
    *_warps(),
    Entry("layers.Normalization", (Normalization,), _normalization),
    Entry("layers.Resizing", (Resizing,), lambda dtype: _op(Resizing((23, 17), dtype=dtype), Warp(), (23, 17))(dtype)),
    *_augmentations(),
]
