"""Images as sequences of patches.

Glossary: B batch, H W C image, P patch size, T = H/P · W/P patches, D width.
"""

import tensorflow as tf

from tfcore import random
from tfcore.layers.dense import Dense
from tfcore.layers.embedding import Embedding
from tfcore.module import Module
from tfcore.ops.parameters import add_parameter
from tfcore.ops.patches import extract_patches
from tfcore.ops.positions import fourier_features


class Patches(Module):
    """Cut an image into patches side by side: (B, H, W, C) -> (B, T, P·P·C), row by row; no weights.

    Raises:
        ValueError: unless the patch size divides the image size (both at least 1).
    """

    def __init__(self, *, image_size: int, patch_size: int):
        super().__init__()
        if patch_size < 1 or image_size < 1 or image_size % patch_size:
            divisors = [str(size) for size in range(1, max(image_size, 1) + 1) if image_size % size == 0]
            raise ValueError(
                f"patch_size must divide image_size ({image_size}), got {patch_size}; possible: {', '.join(divisors)}"
            )
        self.patch_size, self.side = patch_size, image_size // patch_size

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        cut = extract_patches(
            images, kernel_size=self.patch_size, stride=self.patch_size, padding="VALID"
        )  # (B, H/P, W/P, P·P, C)
        _, rows, columns, pixels, channels = cut.shape
        if (rows, columns) != (self.side, self.side):
            raise ValueError(
                f"the patches were made for images of {self.side * self.patch_size} pixels a side, "
                f"got {images.shape[1]}×{images.shape[2]}"
            )
        return tf.reshape(cut, [-1, rows * columns, pixels * channels])  # (B, T, P·P·C)


class PatchEncoder(Module):
    """Project each patch to `width` and add what tells its position: (B, T, P·P·C) -> (B, T, width).

    Args:
        side: patches along an image's side, √T.
        patch_width: P·P·C.
        width: D.
        positions: "learned" adds an embedding (as in both Keras texts); "fourier" joins the Fourier features of the
            position to the patch before the projection (as in the Perceiver's paper), with `bands` frequencies.

    Raises:
        ValueError: for sizes below 1 or unknown positions.
    """

    KINDS = ("learned", "fourier")

    def __init__(
        self,
        *,
        side: int,
        patch_width: int,
        width: int,
        positions: str = "learned",
        bands: int = 16,
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if positions not in self.KINDS:
            raise ValueError(f"positions must be one of {', '.join(self.KINDS)}, got {positions!r}")
        self.dtype = dtype
        self.position: Embedding | None = None
        self.features: tf.Tensor = None  # of Fourier positions
        if positions == "learned":
            self.position = Embedding(count=side * side, width=width, key=random.fold_in(key, 1), dtype=dtype)
        else:
            self.features = tf.constant(fourier_features(side, side, bands=bands), dtype)  # (T, 4·bands + 2)
            patch_width += self.features.shape[1]
        self.projection = Dense(inputs=patch_width, units=width, key=random.fold_in(key, 0), dtype=dtype)

    def __call__(self, patches: tf.Tensor) -> tf.Tensor:
        patches = tf.cast(patches, self.dtype)
        if self.position is not None:
            return add_parameter(self.projection(patches), self.position())  # (B, T, width) + (T, width)
        batch = tf.shape(patches)[0]
        features = tf.broadcast_to(self.features, [batch, *self.features.shape])  # (B, T, 4·bands + 2)
        return self.projection(tf.concat([patches, features], axis=2))  # (B, T, width)
