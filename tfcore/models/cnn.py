"""The convolution network that system 1 sets against the involution network."""

import tensorflow as tf

from tfcore import random
from tfcore.layers.conv import Conv2D
from tfcore.layers.dense import Dense
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.pooling import max_pool


class ConvNet(Module):
    """Images (B, image_size, image_size, in_channels) in [0, 1] -> logits (B, classes).

    Convolution 3×3 → ReLU → max-pool 2, twice; convolution → ReLU; flatten → Dense `units` ReLU → Dense `classes`.
    319,178 parameters in the published size: "Involutional neural networks" (Keras examples).

    Raises:
        ValueError: for an image size that is not a positive multiple of 4, other than three `filters`, and what
            `Conv2D` and `Dense` refuse.
    """

    def __init__(
        self,
        *,
        key: tf.Tensor,
        image_size: int = 32,
        in_channels: int = 3,
        classes: int = 10,
        filters: tuple[int, ...] = (32, 64, 64),
        units: int = 64,
        formulation: str = "tensorflow",
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if image_size < 4 or image_size % 4:
            raise ValueError(f"ConvNet: image_size must be a positive multiple of 4 (two poolings), got {image_size}")
        if len(filters) != 3:
            raise ValueError(f"ConvNet: filters must be three numbers, one for each convolution, got {filters}")
        self.convolutions = [
            Conv2D(
                channels=channels,
                filters=width,
                kernel_size=3,
                formulation=formulation,
                key=random.fold_in(key, site),
                dtype=dtype,
            )
            for site, (channels, width) in enumerate(zip((in_channels, *filters[:2]), filters, strict=True))
        ]
        flat = (image_size // 4) ** 2 * filters[-1]
        self.hidden = Dense(inputs=flat, units=units, key=random.fold_in(key, 3), dtype=dtype)
        self.logits = Dense(inputs=units, units=classes, key=random.fold_in(key, 4), dtype=dtype)

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        del training, key  # the same in training and inference
        x = images
        for i, convolution in enumerate(self.convolutions):
            if i:
                x = max_pool(x, kernel_size=2)  # (B, H/2, W/2, 32), then (B, H/4, W/4, 64)
            x = relu(convolution(x))  # (B, H, W, F)
        flat = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])  # (B, H/4 · W/4 · F)
        return self.logits(relu(self.hidden(flat)))  # (B, classes)
