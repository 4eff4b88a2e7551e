"""The vision transformer of system 2 (Dosovitskiy et al. 2020, arXiv 2010.11929, in the small form of the Keras text).

Glossary: B batch, P patch size, T = (image_size / P)² patches, D width, N heads.
"""

import dataclasses
import math
from typing import Any

import tensorflow as tf

from tfcore import random
from tfcore.config import Config
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.feedforward import FeedForward, LocalFeedForward, Mlp
from tfcore.layers.normalization import LayerNorm
from tfcore.layers.sites import check_sites
from tfcore.layers.stochastic_depth import linear_rates
from tfcore.layers.tokens import ConvolutionTokens, ImageTokens, SequencePool
from tfcore.layers.transformer import PreNormBlock
from tfcore.module import Module
from tfcore.ops.pooling import global_average_pool

HEADS = ("flatten", "mean", "sequence")
STEMS = ("patches", "convolution")
FEED_FORWARDS = ("activated", "linear", "local")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionTransformerConfig(Config):
    """What a `VisionTransformer` is made of: by default the Keras text's, with options of small and better ones.

    Args:
        stem: "patches", projected, as published; "convolution" puts `ConvolutionTokens` there, whose convolutions but
            the last have `stem_filters`.
        key_dim: width of a head, `width` by default, as published.
        feed_forward: "activated" has a GELU behind both layers, as published; "linear" none behind the second, as the
            paper; "local" is "linear" with a depthwise convolution between them, see `LocalFeedForward`.
        stochastic_depth: rate of the last block, see `tfcore.layers.stochastic_depth`.
        head: "flatten" hands all T·D features to the MLP, as published; "mean" their mean over the patches, "sequence"
            that under learned weights, see `SequencePool`.
        head_units: of the MLP's layers, possibly none; `head_dropout` in front of it and in it.
        augmentation: "chain", "fused" or "none", see `ImageTokens`.
        formulation: of attention, see `MultiHeadAttention`.

    Raises:
        ValueError: for an unknown word, no blocks, a rate outside [0, 1), a field that the stem does not use, and no
            `head_units` with head "flatten".
    """

    image_size: int = 72
    stem: str = "patches"
    patch_size: int = 6
    stem_filters: tuple[int, ...] = (64,)
    width: int = 64
    blocks: int = 8
    heads: int = 4
    key_dim: int | None = None
    feed_forward: str = "activated"
    mlp_width: int = 128
    dropout: float = 0.1
    stochastic_depth: float = 0.0
    head: str = "flatten"
    head_units: tuple[int, ...] = (2048, 1024)
    head_dropout: float = 0.5
    augmentation: str = "chain"
    formulation: str = "auto"

    def __post_init__(self):
        self.check_one_of("stem", STEMS)
        self.check_one_of("feed_forward", FEED_FORWARDS)
        self.check_one_of("head", HEADS)
        if self.head == "flatten":
            self.check("head_units", len(self.head_units) > 0, "a size for each layer, such as (2048, 1024)")
        self.check("blocks", self.blocks >= 1, "at least 1")
        self.check("stochastic_depth", 0 <= self.stochastic_depth < 1, "at least 0 and below 1, such as 0.1")
        self.refuse_unused(self.stem == "patches", ["patch_size"], "stem patches")
        self.refuse_unused(self.stem == "convolution", ["stem_filters"], "stem convolution")


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
        self.tokens = _tokens(config, random.fold_in(key, 0), dtype)
        # The head's MLP has the sites from 2 on, each block ten of its own after them: 10, 20, 30, ...
        first_site = 10 * math.ceil((2 + len(config.head_units)) / 10)
        self.blocks = [
            _block(config, rate, self.tokens.side, first_site + 10 * i, random.fold_in(key, 10 + i), dtype)
            for i, rate in enumerate(linear_rates(config.stochastic_depth, config.blocks))
        ]
        self.norm = LayerNorm(width=width, dtype=dtype)
        self.pool = None
        if config.head == "sequence":
            self.pool = SequencePool(width=width, key=random.fold_in(key, 3), dtype=dtype)
        features = width * (self.tokens.side**2 if config.head == "flatten" else 1)
        self.dropout = Dropout(config.head_dropout, site=1, dtype=dtype)
        self.head = None
        if config.head_units:
            self.head = Mlp(
                inputs=features,
                units=config.head_units,
                dropout=config.head_dropout,
                site=2,
                key=random.fold_in(key, 1),
                dtype=dtype,
            )
        last = (features, *config.head_units)[-1]
        self.logits = Dense(inputs=last, units=classes, key=random.fold_in(key, 2), dtype=dtype)
        check_sites(self)

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = self.tokens(images, training=training, key=key)  # (B, T, D)
        for block in self.blocks:
            x = block(x, training=training, key=key)  # (B, T, D)
        x = self.norm(x)
        if self.head_kind == "flatten":
            x = tf.reshape(x, [-1, x.shape[1] * x.shape[2]])  # (B, T·D)
        else:
            x = global_average_pool(x) if self.pool is None else self.pool(x)  # (B, D)
        x = self.dropout(x, training=training, key=key)
        if self.head is not None:
            x = self.head(x, training=training, key=key)
        return self.logits(x)  # (B, classes)


def _tokens(config: VisionTransformerConfig, key: tf.Tensor, dtype: tf.DType) -> ImageTokens | ConvolutionTokens:
    settings: dict[str, Any] = {
        "image_size": config.image_size,
        "width": config.width,
        "augmentation": config.augmentation,
        "rotation_factor": 0.02,
    }
    if config.stem == "convolution":
        return ConvolutionTokens(filters=config.stem_filters, **settings, key=key, dtype=dtype)
    return ImageTokens(patch_size=config.patch_size, **settings, key=key, dtype=dtype)


def _block(
    config: VisionTransformerConfig, rate: float, side: int, site: int, key: tf.Tensor, dtype: tf.DType
) -> PreNormBlock:
    width = config.width
    settings: dict[str, Any] = {
        "inputs": width,
        "dropout": config.dropout,
        "site": site + 1,
        "key": random.fold_in(key, 1),
    }
    feed_forward: Mlp | FeedForward
    if config.feed_forward == "activated":
        feed_forward = Mlp(units=(config.mlp_width, width), **settings, dtype=dtype)
    elif config.feed_forward == "linear":
        feed_forward = FeedForward(hidden=config.mlp_width, units=width, **settings, dtype=dtype)
    else:
        feed_forward = LocalFeedForward(side=side, hidden=config.mlp_width, units=width, **settings, dtype=dtype)
    return PreNormBlock(
        feed_forward,
        width=width,
        heads=config.heads,
        key_dim=width if config.key_dim is None else config.key_dim,
        dropout=config.dropout,
        site=site,
        rate=rate,
        formulation=config.formulation,
        key=key,
        dtype=dtype,
    )
