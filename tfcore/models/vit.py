"""The vision transformer of system 2 (Dosovitskiy et al. 2020, arXiv 2010.11929, in the small form of the Keras text).

Glossary: B batch, P patch size, T = (image_size / P)² patches, D width, N heads.
"""

import dataclasses
import math

import tensorflow as tf

from tfcore import random
from tfcore.config import Config
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.feedforward import Mlp
from tfcore.layers.normalization import LayerNorm
from tfcore.layers.sites import check_sites
from tfcore.layers.tokens import ImageTokens
from tfcore.layers.transformer import PreNormBlock
from tfcore.module import Module
from tfcore.ops.pooling import global_average_pool

HEADS = ("flatten", "mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionTransformerConfig(Config):
    """What a `VisionTransformer` is made of.

    Args:
        head: "flatten" hands all T·D features to the MLP, as published; "mean" their mean over the patches.
        head_units: of the MLP's layers; `head_dropout` in front of it and in it.
        augmentation: "chain", "fused" or "none", see `ImageTokens`.
        formulation: of attention, see `MultiHeadAttention`.

    Raises:
        ValueError: for an unknown head, no `head_units`, or no blocks.
    """

    image_size: int = 72
    patch_size: int = 6
    width: int = 64
    blocks: int = 8
    heads: int = 4
    mlp_width: int = 128
    dropout: float = 0.1
    head: str = "flatten"
    head_units: tuple[int, ...] = (2048, 1024)
    head_dropout: float = 0.5
    augmentation: str = "chain"
    formulation: str = "auto"

    def __post_init__(self):
        self.check_one_of("head", HEADS)
        self.check("head_units", len(self.head_units) > 0, "a size for each layer, such as (2048, 1024)")
        self.check("blocks", self.blocks >= 1, "at least 1")


class VisionTransformer(Module):
    """Images (B, H, W, 3) in 0 .. 255 -> logits (B, classes).

    Normalization by the train set → resize to `image_size` and random augmentation → patches with learned positions →
    `blocks` pre-norm blocks → layer norm → `head` → MLP → logits. 21,759,012 parameters in the published size, the
    normalization's 6 statistics not counted: "Image classification with Vision Transformer" (Keras examples).

    Raises:
        ValueError: for a patch size that does not divide the image size, sizes below 1, rates outside [0, 1), an
            unknown augmentation or formulation.
    """

    def __init__(
        self,
        config: VisionTransformerConfig,
        *,
        key: tf.Tensor,
        classes: int = 100,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        width = config.width
        self.head_kind = config.head
        self.tokens = ImageTokens(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=width,
            augmentation=config.augmentation,
            rotation_factor=0.02,
            key=random.fold_in(key, 0),
            dtype=dtype,
        )
        # The head's MLP has the sites from 2 on, each block ten of its own after them: 10, 20, 30, ...
        first_site = 10 * math.ceil((2 + len(config.head_units)) / 10)
        self.blocks = []
        for i in range(config.blocks):
            block_key, site = random.fold_in(key, 10 + i), first_site + 10 * i
            mlp = Mlp(
                inputs=width,
                units=(config.mlp_width, width),
                dropout=config.dropout,
                site=site + 1,
                key=random.fold_in(block_key, 1),
                dtype=dtype,
            )
            self.blocks.append(
                PreNormBlock(
                    mlp,
                    width=width,
                    heads=config.heads,
                    key_dim=width,
                    dropout=config.dropout,
                    site=site,
                    formulation=config.formulation,
                    key=block_key,
                    dtype=dtype,
                )
            )
        self.norm = LayerNorm(width=width, dtype=dtype)
        features = width * (self.tokens.patches.side**2 if config.head == "flatten" else 1)
        self.dropout = Dropout(config.head_dropout, site=1, dtype=dtype)
        self.head = Mlp(
            inputs=features,
            units=config.head_units,
            dropout=config.head_dropout,
            site=2,
            key=random.fold_in(key, 1),
            dtype=dtype,
        )
        self.logits = Dense(inputs=config.head_units[-1], units=classes, key=random.fold_in(key, 2), dtype=dtype)
        check_sites(self)

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = self.tokens(images, training=training, key=key)  # (B, T, D)
        for block in self.blocks:
            x = block(x, training=training, key=key)  # (B, T, D)
        x = self.norm(x)
        if self.head_kind == "flatten":
            x = tf.reshape(x, [-1, x.shape[1] * x.shape[2]])  # (B, T·D)
        else:
            x = global_average_pool(x)  # (B, D)
        x = self.head(self.dropout(x, training=training, key=key), training=training, key=key)
        return self.logits(x)  # (B, classes)
