"""What stands in front of a transformer of images: normalization, augmentation, patches, positions."""

import tensorflow as tf

from tfcore.layers.augmentation import Normalization, RandomAugmentation, Resizing
from tfcore.layers.patches import PatchEncoder, Patches
from tfcore.module import Module
from tfcore.ops.resampling import FORMULATIONS

AUGMENTATIONS = (*FORMULATIONS, "none")


class ImageTokens(Module):
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
        super().__init__()
        if augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation must be one of {', '.join(AUGMENTATIONS)}, got {augmentation!r}")
        self.normalization = Normalization(dtype=dtype)
        self.resizing, self.augmentation = Resizing(image_size, dtype=dtype), None
        if augmentation != "none":
            self.augmentation = RandomAugmentation(
                image_size, rotation_factor=rotation_factor, site=0, formulation=augmentation, dtype=dtype
            )
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

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = self.normalization(images)  # (B, H, W, 3)
        if training and self.augmentation is not None:
            x = self.augmentation(x, training=True, key=key)  # (B, image_size, image_size, 3)
        else:
            x = self.resizing(x)  # (B, image_size, image_size, 3)
        return self.encoder(self.patches(x))  # (B, T, width)
