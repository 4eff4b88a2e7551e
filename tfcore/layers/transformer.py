"""Transformer blocks: attention alone, pre-norm, post-norm."""

import tensorflow as tf

from tfcore import random
from tfcore.layers.attention import MultiHeadAttention
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.feedforward import FeedForward, Mlp
from tfcore.layers.normalization import LayerNorm
from tfcore.layers.stochastic_depth import StochasticDepth
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.parameters import add_parameter


class AttentionBlock(Module):
    """x + attention(norm x): (B, T, width) -> (B, T, width).

    `rate` is that of the branch's stochastic depth, whose site is `site` + 8. Other arguments and errors as in
    `MultiHeadAttention`.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        key_dim: int,
        dropout: float,
        site: int,
        rate: float = 0.0,
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
        self.attention_drop = StochasticDepth(rate, site=site + 8, dtype=dtype) if rate else None

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        y = self.attention(self.attention_norm(x), training=training, key=key)  # (B, T, width)
        return x + (y if self.attention_drop is None else self.attention_drop(y, training=training, key=key))


class PreNormBlock(AttentionBlock):
    """x + attention(norm x), then y + feed_forward(norm y): (B, T, width) -> (B, T, width).

    Pre-norm: Xiong et al. 2020, arXiv 2002.04745, figure 1b. The feed-forward network is given, since the vision
    transformer and the Perceiver have different ones. Both branches have a stochastic depth of `rate`, with the sites
    `site` + 8 and + 9. Other arguments and errors as in `MultiHeadAttention`.
    """

    def __init__(
        self,
        feed_forward: Mlp | FeedForward,
        *,
        width: int,
        site: int,
        rate: float = 0.0,
        dtype: tf.DType = tf.float32,
        **attention,
    ):
        super().__init__(width=width, site=site, rate=rate, dtype=dtype, **attention)
        self.feed_forward_norm = LayerNorm(width=width, dtype=dtype)
        self.feed_forward = feed_forward
        self.feed_forward_drop = StochasticDepth(rate, site=site + 9, dtype=dtype) if rate else None

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x = super().__call__(x, training=training, key=key)  # (B, T, width): the only exchange between positions
        y = self.feed_forward(self.feed_forward_norm(x), training=training, key=key)  # (B, T, width)
        return x + (y if self.feed_forward_drop is None else self.feed_forward_drop(y, training=training, key=key))


class PostNormBlock(Module):
    """Each branch normalized before it is added: (B, T, width) -> (B, T, width), the time-series text's block.

        r = x + LN(dropout(attention(x)))        y = r + LN(dense(dropout(relu(dense(r)))))

    ("Timeseries classification with a Transformer model", Keras examples.) Where width is 1, a layer norm returns its
    β whatever comes in: neither branch depends on x, and of the block's parameters none but the two β ever gets a
    gradient.

    Args:
        hidden: units between the two dense layers (1×1 convolutions in the text).
        constant_branches: "compute" runs both branches always. "skip" puts β in the place of a branch whose layer norm
            is over one feature: outputs and gradients are the same, for the sizes prove it.
        site: of the attention's dropout; the block's two dropouts have the next two.
        width, heads, key_dim, dropout, formulation, key, dtype: as in `MultiHeadAttention`.

    Raises:
        ValueError: what `MultiHeadAttention` refuses; for hidden below 1, an unknown `constant_branches`, and "skip"
            with a width above 1, where no branch is constant.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        key_dim: int,
        hidden: int,
        dropout: float,
        site: int,
        constant_branches: str = "compute",
        formulation: str = "auto",
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if constant_branches not in ("compute", "skip"):
            raise ValueError(f"constant_branches must be compute or skip, got {constant_branches!r}")
        if constant_branches == "skip" and width > 1:
            raise ValueError(f"constant_branches=skip needs width 1, where layer norm is constant, got width {width}")
        self.skips = constant_branches == "skip"
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
        self.attention_dropout = Dropout(dropout, site=site + 1, dtype=dtype)
        self.attention_norm = LayerNorm(width=width, dtype=dtype)
        self.hidden = Dense(inputs=width, units=hidden, key=random.fold_in(key, 1), dtype=dtype)
        self.hidden_dropout = Dropout(dropout, site=site + 2, dtype=dtype)
        self.output = Dense(inputs=hidden, units=width, key=random.fold_in(key, 2), dtype=dtype)
        self.output_norm = LayerNorm(width=width, dtype=dtype)

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        if self.skips:
            return add_parameter(add_parameter(x, self.attention_norm.constant()), self.output_norm.constant())
        attended = self.attention(x, training=training, key=key)  # (B, T, width)
        r = x + self.attention_norm(self.attention_dropout(attended, training=training, key=key))
        hidden = self.hidden_dropout(relu(self.hidden(r)), training=training, key=key)  # (B, T, hidden)
        return r + self.output_norm(self.output(hidden))  # (B, T, width)
