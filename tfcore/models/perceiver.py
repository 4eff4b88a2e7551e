"""The Perceiver of system 3 (Jaegle et al. 2021, arXiv 2103.03206, in the form of the Keras text).

Glossary: B batch, S data positions (patches), L latents, D width.
"""

import dataclasses

import tensorflow as tf

from tfcore import random
from tfcore.config import Config
from tfcore.initializers import normal
from tfcore.layers.attention import Attention
from tfcore.layers.dense import Dense
from tfcore.layers.feedforward import FeedForward
from tfcore.layers.normalization import LayerNorm
from tfcore.layers.sites import check_sites
from tfcore.layers.tokens import ImageTokens
from tfcore.layers.transformer import PreNormBlock
from tfcore.module import Module
from tfcore.ops.parameters import add_parameter, broadcast_parameter
from tfcore.ops.pooling import global_average_pool
from tfcore.precision import variable_dtype


class CrossAttention(Module):
    """Latents read from the data: (B or 1, L, D), keys and values (B, S, D) -> (B, L, D).

    latent' = LN(latent); a = LN(attention(latent' W_q, K, V) + latent'); output = FFN(a) + a. One head, scores scaled
    by one learned number instead of 1/√D.
    """

    def __init__(
        self,
        *,
        width: int,
        dropout: float,
        ffn_dropout: float,
        site: int,
        formulation: str = "direct",
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        self.latent_norm = LayerNorm(width=width, dtype=dtype)
        self.data_norm = LayerNorm(width=width, dtype=dtype)
        self.query = Dense(inputs=width, units=width, key=random.fold_in(key, 0), dtype=dtype)
        self.keys = Dense(inputs=width, units=width, key=random.fold_in(key, 1), dtype=dtype)
        self.values = Dense(inputs=width, units=width, key=random.fold_in(key, 2), dtype=dtype)
        self.attention = Attention(dropout=dropout, site=site, formulation=formulation, dtype=dtype)
        self.norm = LayerNorm(width=width, dtype=dtype)
        self.feed_forward = FeedForward(
            inputs=width,
            hidden=width,
            units=width,
            dropout=ffn_dropout,
            site=site + 1,
            key=random.fold_in(key, 3),
            dtype=dtype,
        )

    def keys_and_values(self, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return keys and values of the data: (B, S, D) -> (B, S, D), (B, S, D). They do not depend on the latents."""
        data = self.data_norm(data)
        return self.keys(data), self.values(data)

    def __call__(
        self,
        latents: tf.Tensor,
        keys: tf.Tensor,
        values: tf.Tensor,
        *,
        training: bool = False,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        latents = self.latent_norm(latents)  # (B or 1, L, D)
        x = self.attention(self._query(latents, keys), keys, values, training=training, key=key)  # (B, L, D)
        x = self.norm(add_parameter(x, latents))
        return self.feed_forward(x, training=training, key=key) + x  # (B, L, D)

    def _query(self, latents: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """The first iteration's latents are the same for all examples: projected once, then handed to each."""
        query = self.query(latents)  # (B or 1, L, D)
        return broadcast_parameter(query, [tf.shape(keys)[0], *query.shape[1:]])  # (B, L, D)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverConfig(Config):
    """What a `Perceiver` is made of.

    Args:
        latents: L.
        positions: "learned", or "fourier" as in the paper, with `bands` frequencies.
        augmentation: as in `VisionTransformerConfig`.
        formulation: of the blocks' attention, see `MultiHeadAttention`; the cross-attention is direct or chunked.

    Raises:
        ValueError: for no latents, iterations or blocks, and for `bands` without "fourier".
    """

    image_size: int = 64
    patch_size: int = 2
    width: int = 256
    latents: int = 256
    iterations: int = 2
    blocks: int = 4
    heads: int = 8
    dropout: float = 0.1
    ffn_dropout: float = 0.2
    positions: str = "learned"
    bands: int = 16
    augmentation: str = "chain"
    formulation: str = "auto"

    def __post_init__(self):
        for field in ("latents", "iterations", "blocks"):
            self.check(field, getattr(self, field) >= 1, "at least 1")
        self.refuse_unused(self.positions != "learned", ["bands"], "positions fourier")


class Perceiver(Module):
    """Images (B, H, W, 3) in 0 .. 255 -> logits (B, classes).

    Normalization → resize to `image_size`, random flip and zoom → patches with positions; then `iterations` times, with
    the same weights: cross-attention from a learned latent array, `blocks` pre-norm blocks on the latents; then the
    mean over the latents → Dense → GELU → Dense → dropout (on the logits, as published). 9,697,637 parameters in the
    published size, the normalization's 6 statistics not counted: "Image classification with Perceiver" (Keras
    examples).

    Keys and values of the cross-attention do not change between the iterations, so they are computed once.

    Raises:
        ValueError: for a patch size that does not divide the image size, sizes below 1, rates outside [0, 1), unknown
            positions, augmentation or formulation.
    """

    def __init__(
        self,
        config: PerceiverConfig,
        *,
        key: tf.Tensor,
        classes: int = 100,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        width = config.width
        self.iterations, self.dtype = config.iterations, dtype
        self.tokens = ImageTokens(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=width,
            augmentation=config.augmentation,
            rotation_factor=0.0,
            positions=config.positions,
            bands=config.bands,
            key=random.fold_in(key, 0),
            dtype=dtype,
        )
        latent_array = normal((config.latents, width), random.fold_in(key, 1), 0.05, variable_dtype(dtype))
        self.latents = tf.Variable(latent_array, name="latents")
        self.cross_attention = CrossAttention(
            width=width,
            dropout=config.dropout,
            ffn_dropout=config.ffn_dropout,
            site=1,
            # Direct where it may choose: its keys and values are used twice.
            formulation="chunked" if config.formulation == "chunked" else "direct",
            key=random.fold_in(key, 2),
            dtype=dtype,
        )
        self.blocks = []
        for i in range(config.blocks):
            block_key, site = random.fold_in(key, 10 + i), 10 * (i + 1)
            feed_forward = FeedForward(
                inputs=width,
                hidden=width,
                units=width,
                dropout=config.ffn_dropout,
                site=site + 1,
                key=random.fold_in(block_key, 1),
                dtype=dtype,
            )
            self.blocks.append(
                PreNormBlock(
                    feed_forward,
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
        self.head = FeedForward(
            inputs=width,
            hidden=width,
            units=classes,
            dropout=config.ffn_dropout,
            site=5,
            key=random.fold_in(key, 3),
            dtype=dtype,
        )
        check_sites(self)

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        tokens = self.tokens(images, training=training, key=key)  # (B, S, D)
        keys, values = self.cross_attention.keys_and_values(tokens)  # (B, S, D), (B, S, D)
        latents = tf.cast(self.latents, self.dtype)[None]  # (1, L, D)
        for iteration in range(self.iterations):
            # The same modules again: a key of their own, or both iterations would drop the same elements.
            own_key = None if key is None else random.fold_in(key, 1000 + iteration)
            latents = self.cross_attention(latents, keys, values, training=training, key=own_key)  # (B, L, D)
            for block in self.blocks:
                latents = block(latents, training=training, key=own_key)  # (B, L, D)
        return self.head(global_average_pool(latents), training=training, key=key)  # (B, classes)
