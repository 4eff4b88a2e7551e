"""The involution network of system 1: three involutions on three channels, then two dense layers."""

import dataclasses

import tensorflow as tf

from tfcore import random
from tfcore.config import Config
from tfcore.layers.dense import Dense
from tfcore.layers.involution import Involution
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.pooling import max_pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnConfig(Config):
    """What an `Inn` is made of: `units` are those of the first dense layer, the other fields those of `Involution`."""

    channels: int = 3
    groups: int = 1
    kernel_size: int = 3
    reduction_ratio: int = 2
    group_order: str = "modulo"
    units: int = 64
    formulation: str = "factored"


class Inn(Module):
    """Images (B, image_size, image_size, in_channels) in [0, 1] -> logits (B, classes).

    Involution → ReLU → max-pool 2, twice; involution → ReLU; flatten → Dense `units` ReLU → Dense `classes`.
    13,080 parameters (13,074 trained) in the published size: "Involutional neural networks" (Keras examples).

    Raises:
        ValueError: for an image size that is not a positive multiple of 4, and what `Involution` and `Dense` refuse.
    """

    def __init__(
        self,
        config: InnConfig,
        *,
        key: tf.Tensor,
        image_size: int = 32,
        in_channels: int = 3,
        classes: int = 10,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if image_size < 4 or image_size % 4:
            raise ValueError(f"Inn: image_size must be a positive multiple of 4 (two poolings), got {image_size}")
        self.involutions = [
            Involution(
                in_channels=in_channels,
                channels=config.channels,
                groups=config.groups,
                kernel_size=config.kernel_size,
                reduction_ratio=config.reduction_ratio,
                group_order=config.group_order,
                formulation=config.formulation,
                key=random.fold_in(key, site),
                dtype=dtype,
            )
            for site in range(3)
        ]
        flat = (image_size // 4) ** 2 * in_channels
        self.hidden = Dense(inputs=flat, units=config.units, key=random.fold_in(key, 3), dtype=dtype)
        self.logits = Dense(inputs=config.units, units=classes, key=random.fold_in(key, 4), dtype=dtype)

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        del key  # no random layer
        features, _ = self.features(images, training=training)  # (B, H/4, W/4, C)
        flat = tf.reshape(features, [-1, features.shape[1] * features.shape[2] * features.shape[3]])
        return self.logits(relu(self.hidden(flat)))  # (B, classes)

    def features(self, images: tf.Tensor, *, training: bool = False) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return the last involution's activations (B, H/4, W/4, C) and each involution's kernel (B, ., ., K·K, 1, G).

        The kernels' heat maps (their sum over the K·K taps) are the published picture.
        """
        x, kernels = images, []
        for involution in self.involutions:
            x, kernel = involution(x, training=training)  # (B, H, W, C), (B, H, W, K·K, 1, G)
            kernels.append(kernel)
            if len(kernels) < len(self.involutions):
                # ReLU after the pooling: the same values and gradients, with a quarter of the elements to go through.
                x = max_pool(x, kernel_size=2)  # (B, H/2, W/2, C), then (B, H/4, W/4, C)
            x = relu(x)
        return x, kernels
