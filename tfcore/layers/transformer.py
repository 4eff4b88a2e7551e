"""The pre-norm transformer block."""

import tensorflow as tf

from tfcore import random
from tfcore.layers.attention import MultiHeadAttention
from tfcore.layers.feedforward import FeedForward, Mlp
from tfcore.layers.normalization import LayerNorm
from tfcore.module import Module


class PreNormBlock(Module):
    """x + attention(norm x), then y + feed_forward(norm y): (B, T, width) -> (B, T, width).

    Pre-norm: Xiong et al. 2020, arXiv 2002.04745, figure 1b. The feed-forward network is given, since the vision
    transformer and the Perceiver have different ones. Arguments and errors as in `MultiHeadAttention`.
    """

    def __init__(
        self,
        feed_forward: Mlp | FeedForward,
        *,
        width: int,
        heads: int,
        key_dim: int,
        dropout: float,
        site: int,
        formulation: str = "direct",
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        self.attention_norm = LayerNorm(width=width, dtype=dtype)
        self.attention = MultiHeadAttention(
            width=width,
            heads=heads,
            key_dim=key_dim,
            dropout=dropout,
            site=site,
            formulation=formulation,
            key=random.fold_in(key, 0),
            dtype=dtype,
        )
        self.feed_forward_norm = LayerNorm(width=width, dtype=dtype)
        self.feed_forward = feed_forward

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = x + self.attention(self.attention_norm(x), training=training, key=key)  # (B, T, width)
        return x + self.feed_forward(self.feed_forward_norm(x), training=training, key=key)  # (B, T, width)

    def weights(self, x: tf.Tensor) -> tf.Tensor:
        """Return the attention weights (B, N, T, T) that the block gives its input in inference."""
        return self.attention.weights(self.attention_norm(x))
