"""The time-series Transformer of system 4: faithful to the Keras text, and mended so that its attention counts.

Glossary: B batch, T time steps, C channels (features a step), S tokens, D width.
"""

import dataclasses

import tensorflow as tf

from tfcore import random
from tfcore.config import Config
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.normalization import LayerNorm
from tfcore.layers.series import RandomShift, SeriesTokens
from tfcore.layers.sites import check_sites
from tfcore.layers.transformer import AttentionBlock, PostNormBlock
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.pooling import global_average_pool
from tfcore.precision import statistics_dtype


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeSeriesTransformerConfig(Config):
    """What a `TimeSeriesTransformer` is made of.

    Args:
        blocks: 0 leaves the head alone, the MLP that the whole model amounts to.
        heads, key_dim, hidden: of each block, see `PostNormBlock`.
        dropout: of attention weights and inside the blocks; `head_dropout`: before the logits.
        constant_branches: "compute", or "skip": do not compute what the sizes prove to be constant; the same results.
        formulation: of attention, see `MultiHeadAttention`.

    Raises:
        ValueError: for blocks below 0, and for what nothing uses where there are none.
    """

    blocks: int = 4
    heads: int = 4
    key_dim: int = 256
    hidden: int = 4
    dropout: float = 0.25
    head_units: int = 128
    head_dropout: float = 0.4
    constant_branches: str = "compute"
    formulation: str = "auto"

    def __post_init__(self):
        self.check("blocks", self.blocks >= 0, "at least 0")
        of_blocks = ("heads", "key_dim", "hidden", "dropout", "constant_branches", "formulation")
        self.refuse_unused(self.blocks > 0, of_blocks, "blocks of at least 1")


class TimeSeriesTransformer(Module):
    """Series (B, T, C) -> logits (B, classes); "Timeseries classification with a Transformer model" (Keras examples).

    `blocks` post-norm blocks → mean over the features → Dense `head_units` ReLU → dropout → logits. 93,130 parameters
    in the published size (T 500, C 1, 2 classes), of which 28,736 never get a gradient: with one feature a step, every
    layer norm is constant, and the model is the MLP T → 128 → classes on the series itself. The published softmax is
    applied where probabilities are wanted; the loss takes the logits, as Keras's does behind a softmax.

    Args:
        length: T, fixed, since the head has a weight for each time step.
        channels: C; the published text has 1.

    Raises:
        ValueError: for sizes below 1, rates outside [0, 1), an unknown formulation or `constant_branches`, a
            series of another length or number of channels.
    """

    def __init__(
        self,
        config: TimeSeriesTransformerConfig,
        *,
        key: tf.Tensor,
        length: int = 500,
        channels: int = 1,
        classes: int = 2,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        self.length, self.channels, self.dtype = length, channels, dtype
        self.blocks = [
            PostNormBlock(
                width=channels,
                heads=config.heads,
                key_dim=config.key_dim,
                hidden=config.hidden,
                dropout=config.dropout,
                site=10 * (i + 1),
                constant_branches=config.constant_branches,
                formulation=config.formulation,
                key=random.fold_in(key, 10 + i),
                dtype=dtype,
            )
            for i in range(config.blocks)
        ]
        self.head = Dense(inputs=length, units=config.head_units, key=random.fold_in(key, 0), dtype=dtype)
        self.dropout = Dropout(config.head_dropout, site=0, dtype=dtype)
        self.logits = Dense(inputs=config.head_units, units=classes, key=random.fold_in(key, 1), dtype=dtype)
        check_sites(self)

    def __call__(self, series: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        check_series(series, self.length, self.channels)
        x = tf.cast(series, self.dtype)
        for block in self.blocks:
            x = block(x, training=training, key=key)  # (B, T, C)
        x = tf.cast(x, statistics_dtype(self.dtype))
        x = tf.reduce_mean(x, axis=2)  # (B, T): over the features; the text's "channels_first" pooling does this
        x = self.dropout(relu(self.head(x)), training=training, key=key)  # (B, head_units)
        return self.logits(x)  # (B, classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowTransformerConfig(Config):
    """What a `WindowTransformer` is made of.

    Args:
        window, stride: of the tokens, in time steps.
        dropout: before the logits.
        shift: greatest shift in training, as a share of the length.
        formulation: of attention, see `MultiHeadAttention`.

    Raises:
        ValueError: for no blocks or heads, a width that is no multiple of the heads, a shift outside [0, 1).
    """

    window: int = 64
    stride: int = 8
    width: int = 64
    blocks: int = 2
    heads: int = 4
    dropout: float = 0.3
    shift: float = 0.1
    formulation: str = "auto"

    def __post_init__(self):
        for field in ("blocks", "heads"):
            self.check(field, getattr(self, field) >= 1, "at least 1")
        self.check("width", self.width % self.heads == 0, f"a multiple of the {self.heads} heads")
        self.check("shift", 0 <= self.shift < 1, "at least 0 and below 1, such as 0.1")


class WindowTransformer(Module):
    """Series (B, T, 1) -> logits (B, classes): what system 4 needs for its attention to have something to mix.

    In training a random shift in time → overlapping windows as tokens with sinusoidal positions → `blocks` times
    x + attention(layer norm x) → layer norm → mean over the tokens → dropout → logits. 37,954 parameters for 2 classes,
    at any length. Against the Keras text: a token is a window, not a single value, and `width` features wide, so that
    layer norm has something to normalize; positions tell the tokens apart; the pooling is over time and keeps the
    features; and no feed-forward network stands beside the attention: windows, a nonlinearity and a mean over time
    are a convolution network, which has no need of attention.

    Args:
        length: T.

    Raises:
        ValueError: for sizes below 1, a window that is no multiple of the stride, a width that is odd, a rate outside
            [0, 1), a series of another length or with more than one channel.
    """

    def __init__(
        self,
        config: WindowTransformerConfig,
        *,
        key: tf.Tensor,
        length: int = 500,
        classes: int = 2,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        width = config.width
        self.length, self.dtype = length, dtype
        self.shift = RandomShift(round(config.shift * length), site=0)
        self.tokens = SeriesTokens(
            length=length,
            window=config.window,
            stride=config.stride,
            width=width,
            key=random.fold_in(key, 0),
            dtype=dtype,
        )
        self.blocks = [
            AttentionBlock(
                width=width,
                heads=config.heads,
                key_dim=width // config.heads,
                dropout=0.0,
                site=10 * (i + 1),
                formulation=config.formulation,
                key=random.fold_in(key, 10 + i),
                dtype=dtype,
            )
            for i in range(config.blocks)
        ]
        self.norm = LayerNorm(width=width, dtype=dtype)
        self.dropout = Dropout(config.dropout, site=1, dtype=dtype)
        self.logits = Dense(inputs=width, units=classes, key=random.fold_in(key, 1), dtype=dtype)
        check_sites(self)

    def __call__(self, series: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        check_series(series, self.length, 1)
        x = self.tokens(self.shift(series[:, :, 0], training=training, key=key))  # (B, S, D)
        for block in self.blocks:
            x = block(x, training=training, key=key)  # (B, S, D)
        x = global_average_pool(self.norm(x))  # (B, D)
        return self.logits(self.dropout(x, training=training, key=key))  # (B, classes)


def check_series(series: tf.Tensor, length: int, channels: int) -> None:
    """Raise ValueError unless `series` is (B, length, channels)."""
    if series.shape.rank != 3 or tuple(series.shape[1:]) != (length, channels):
        raise ValueError(f"the model takes series (B, {length}, {channels}), got {tuple(series.shape)}")
