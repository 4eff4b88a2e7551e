"""Between images and a transformer: normalization, augmentation, patches or convolutions, positions; last, pooling.

Glossary: B batch, H W C image, T tokens, D width.
"""

import itertools

import tensorflow as tf

from tfcore import random
from tfcore.initializers import he_uniform
from tfcore.layers.augmentation import Normalization, RandomAugmentation, Resizing
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.layers.embedding import Embedding
from tfcore.layers.patches import PatchEncoder, Patches
from tfcore.module import Module
from tfcore.ops.activations import relu, softmax
from tfcore.ops.parameters import add_parameter
from tfcore.ops.pooling import max_pool
from tfcore.ops.resampling import FORMULATIONS
from tfcore.precision import statistics_dtype

AUGMENTATIONS = (*FORMULATIONS, "none")


class _PreparedImages(Module):
    """Images (B, H, W, 3) in 0 .. 255 -> (B, image_size, image_size, 3): normalized, resized, in training augmented."""

    def __init__(self, image_size: int, augmentation: str, rotation_factor: float, dtype: tf.DType):
        super().__init__()
        if augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation must be one of {', '.join(AUGMENTATIONS)}, got {augmentation!r}")
        self.normalization = Normalization(dtype=dtype)
        self.resizing, self.augmentation = Resizing(image_size, dtype=dtype), None
        if augmentation != "none":
            self.augmentation = RandomAugmentation(
                image_size, rotation_factor=rotation_factor, site=0, formulation=augmentation, dtype=dtype
            )

    def _prepared(self, images: tf.Tensor, training: bool, key: tf.Tensor | None) -> tf.Tensor:
        x = self.normalization(images)  # (B, H, W, 3)
        if training and self.augmentation is not None:
            return self.augmentation(x, training=True, key=key)  # (B, image_size, image_size, 3)
        return self.resizing(x)  # (B, image_size, image_size, 3)


class ImageTokens(_PreparedImages):
    """Images (B, H, W, 3) in 0 .. 255 -> tokens (B, T, width), T = (image_size / patch_size)².

    Normalization by the train set (`normalization.fit`) → resize to `image_size` and, in training, random flip,
    rotation and zoom → patches → projection with positions.

    Args:
        augmentation: "chain" or "fused", see `tfcore.ops.resampling.warp`; "none" resizes only.
        rotation_factor: in turns; 0 leaves rotation out.
        positions, bands: see `PatchEncoder`.

    Raises:
        ValueError: for a patch size that does not divide the image size, sizes below 1, an unknown augmentation or
            unknown positions.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        augmentation: str,
        rotation_factor: float,
        positions: str = "learned",
        bands: int = 16,
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__(image_size, augmentation, rotation_factor, dtype)
        self.patches = Patches(image_size=image_size, patch_size=patch_size)
        self.encoder = PatchEncoder(
            side=self.patches.side,
            patch_width=3 * patch_size**2,
            width=width,
            positions=positions,
            bands=bands,
            key=key,
            dtype=dtype,
        )

    @property
    def side(self) -> int:
        """Tokens along an image's side, √T."""
        return self.patches.side

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        return self.encoder(self.patches(self._prepared(images, training, key)))  # (B, T, width)


class ConvolutionTokens(_PreparedImages):
    """Images (B, H, W, 3) in 0 .. 255 -> tokens (B, T, width): `ImageTokens` with overlapping, nonlinear patches.

    Prepared as there; then convolution 3×3 without a bias → max-pool 3 with stride 2 → ReLU (the same as ReLU first) to
    each of `filters` and to `width`, plus a learned position for each pixel that is left. The tokenizer of the compact
    convolutional transformer (Hassani et al. 2021, arXiv 2104.05704, section 3.3).

    Args:
        augmentation, rotation_factor: as in `ImageTokens`.
        filters: channels of all convolutions but the last.

    Raises:
        ValueError: for sizes below 1, or an unknown augmentation.
    """

    def __init__(
        self,
        *,
        image_size: int,
        filters: tuple[int, ...],
        width: int,
        augmentation: str,
        rotation_factor: float,
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__(image_size, augmentation, rotation_factor, dtype)
        self.convolutions = [
            Conv2D(
                channels=channels,
                filters=count,
                kernel_size=3,
                use_bias=False,
                initializer=he_uniform,
                key=random.fold_in(key, 10 + i),
                dtype=dtype,
            )
            for i, (channels, count) in enumerate(itertools.pairwise((3, *filters, width)))
        ]
        self.side = image_size
        for _ in self.convolutions:
            self.side = -(-self.side // 2)
        self.position = Embedding(count=self.side**2, width=width, key=random.fold_in(key, 1), dtype=dtype)

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = self._prepared(images, training, key)
        for convolution in self.convolutions:
            x = relu(max_pool(convolution(x), kernel_size=3, stride=2, padding="SAME"))  # (B, H/2, W/2, F)
        tokens = tf.reshape(x, [-1, x.shape[1] * x.shape[2], x.shape[3]])  # (B, T, width)
        return add_parameter(tokens, self.position())  # (B, T, width) + (T, width)


class SequencePool(Module):
    """The mean of the tokens under weights that each gives itself: (B, T, width) -> (B, width).

        y[b] = Σ_t softmax(x · kernel)[b, t] · x[b, t]        (Hassani et al. 2021, equations 1 to 3)

    `score` is a Dense to one unit; a bias would add the same to all scores. Raises ValueError for a width below 1.
    """

    def __init__(self, *, width: int, key: tf.Tensor, dtype: tf.DType = tf.float32):
        super().__init__()
        self.score = Dense(inputs=width, units=1, use_bias=False, key=key, dtype=dtype)
        self.dtype = dtype

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, self.dtype)
        return tf.matmul(self.weights(x)[:, None], x)[:, 0]  # (B, 1, T) x (B, T, D) -> (B, 1, D)

    def weights(self, x: tf.Tensor) -> tf.Tensor:
        """Return the tokens' weights (B, T), for pictures and audits."""
        scores = tf.cast(self.score(x)[..., 0], statistics_dtype(self.dtype))  # (B, T)
        return tf.cast(softmax(scores), self.dtype)
