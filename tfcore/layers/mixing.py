"""Augmentation of a batch in front of any model: random crop, mirror, cutout, mixup, CutMix.

Glossary: B batch, H W C image.
"""

import dataclasses
import math

import tensorflow as tf

from tfcore import random
from tfcore.config import Config
from tfcore.module import Module
from tfcore.ops import mixing

SITE = 1_000_000  # beyond those of a model's random layers, whose step key this layer shares


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixingConfig(Config):
    """What a `Mixing` does; by default nothing.

    Args:
        crop_padding: pixels by which an image may move to either side, each way as likely.
        mirror: whether each image is mirrored with probability ½.
        cutout: side of the square that is erased of each image, in pixels; 0 erases none.
        mixup_alpha, cutmix_alpha: α of Beta(α, α), from which the weights are drawn; 0 leaves it out. With both, each
            example has one of them, either as likely.
        mix_probability: that an example is mixed at all.

    Raises:
        ValueError: for a negative number, a probability outside (0, 1], or a `mix_probability` with nothing to mix.
    """

    crop_padding: int = 0
    mirror: bool = False
    cutout: int = 0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    mix_probability: float = 1.0

    def __post_init__(self):
        self.check("crop_padding", self.crop_padding >= 0, "at least 0, such as 4")
        self.check("cutout", self.cutout >= 0, "at least 0, such as 8")
        for name in ("mixup_alpha", "cutmix_alpha"):
            self.check(name, 0 <= getattr(self, name) < math.inf, "at least 0, such as 0.8")
        self.check("mix_probability", 0 < self.mix_probability <= 1, "above 0 and at most 1, such as 0.5")
        self.refuse_unused(self.mixes, ["mix_probability"], "mixup_alpha or cutmix_alpha")

    @property
    def mixes(self) -> bool:
        """Whether examples are mixed with each other."""
        return bool(self.mixup_alpha or self.cutmix_alpha)

    @property
    def needs_images(self) -> bool:
        """Whether there is something that only images have."""
        return bool(self.crop_padding or self.mirror or self.cutout or self.cutmix_alpha)


class Mixing(Module):
    """Examples (B, ...) -> examples (B, ...) and the share w (B,) that each has of its own; its partner has 1 − w.

    In this order: crop and mirror (`shift_and_mirror`), cutout (`erase`), mixup or CutMix (`blend`). What happens to
    example i is a function of the step's key and of i, whatever the batch; whom it is mixed with, of the batch's size.

    Raises:
        ValueError: when called without a key; for other inputs than images (B, H, W, C) where the config needs images.
    """

    def __init__(self, config: MixingConfig):
        super().__init__()
        self.config = config

    def __call__(self, x: tf.Tensor, *, key: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        if key is None:
            raise ValueError("Mixing: it needs a key, such as tfcore.random.make_key(seed)")
        config, count = self.config, tf.shape(x)[0]
        if config.needs_images and x.shape.rank != 4:
            raise ValueError(f"Mixing: crop, mirror, cutout and CutMix are for images (B, H, W, C), got {x.shape}")
        key = random.fold_in(key, SITE)

        def place(stream: int, low: int, high: int) -> tf.Tensor:
            return random.integers(random.fold_in(key, stream), [count], low, high)  # (B,)

        if config.crop_padding or config.mirror:
            padding, zeros = config.crop_padding, tf.zeros([count], tf.int32)
            rows, columns = (place(i, -padding, padding) if padding else zeros for i in (0, 1))
            flips = random.keep_mask(random.fold_in(key, 2), [count], 0.5) if config.mirror else zeros > 0
            x = mixing.shift_and_mirror(x, rows, columns, flips)
        if config.cutout:
            x = mixing.erase(x, *(place(3 + i, 0, x.shape[1 + i] - 1) for i in (0, 1)), size=config.cutout)
        if not config.mixes:
            return x, tf.ones([count], x.dtype)
        weights, shares = self._weights(x, count, key)
        return mixing.blend(x, weights), shares

    def _weights(self, x: tf.Tensor, count: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The weights (B, ., ., .) of an example's own values, and their mean (B,)."""
        config = self.config

        def uniform(stream: int) -> tf.Tensor:
            return random.uniform(random.fold_in(key, stream), [count], 0.0, 1.0, dtype=x.dtype)  # (B,)

        chosen, draw = uniform(5), uniform(6)
        mixed = chosen < config.mix_probability
        cut = chosen < config.mix_probability * (0.5 if config.mixup_alpha else 1.0) if config.cutmix_alpha else None
        shares = tf.where(mixed, mixing.beta_quantile(draw, config.mixup_alpha), 1.0) if config.mixup_alpha else None
        spread = [-1] + [1] * (x.shape.rank - 1)
        if cut is None:
            return tf.reshape(shares, spread), shares
        height, width = x.shape[1:3]
        side = tf.sqrt(1.0 - mixing.beta_quantile(draw, config.cutmix_alpha))  # (B,), as a share
        sizes = [tf.cast(tf.round(side * size), tf.int32) for size in (height, width)]
        centres = [
            random.integers(random.fold_in(key, 7 + i), [count], 0, size - 1) for i, size in enumerate((height, width))
        ]
        box = mixing.inside((height, width), *centres, *sizes) & tf.reshape(cut, spread)  # (B, H, W, 1)
        own = 1.0 - tf.cast(box, x.dtype)
        if shares is None:
            return own, tf.reduce_mean(own, axis=(1, 2, 3))
        return (
            tf.where(tf.reshape(cut, spread), own, tf.reshape(shares, spread)),
            tf.where(cut, tf.reduce_mean(own, axis=(1, 2, 3)), shares),
        )
