"""The time-series Transformer of system 4: faithful to the Keras text, and mended so that its attention counts.

Glossary: B batch, T time steps, C channels (features a step), S tokens, D width.
"""

import tensorflow as tf

from tfcore import random
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.normalization import LayerNorm
from tfcore.layers.series import RandomShift, SeriesTokens
from tfcore.layers.transformer import AttentionBlock, PostNormBlock
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.pooling import global_average_pool
from tfcore.precision import statistics_dtype


class TimeSeriesTransformer(Module):
    """Series (B, T, C) -> logits (B, classes); "Timeseries classification with a Transformer model" (Keras examples).

    `blocks` post-norm blocks → mean over the features → Dense `head_units` ReLU → dropout → logits. 93,130 parameters
    in the published size (T 500, C 1, 2 classes), of which 28,736 never get a gradient: with one feature a step, every
    layer norm is constant, and the model is the MLP T → 128 → classes on the series itself. The published softmax is
    applied where probabilities are wanted; the loss takes the logits, as Keras's does behind a softmax.

    Args:
        length: T, fixed, since the head has a weight for each time step.
        blocks: 0 leaves the head alone, the MLP that the whole model amounts to.
        channels: C; the published text has 1.
        dropout: of attention weights and inside the blocks; `head_dropout`: before the logits.
        constant_branches: "compute" or "skip", see `PostNormBlock`.
        formulation: of attention, see `MultiHeadAttention`.

    Raises:
        ValueError: for sizes below 1 (blocks: below 0), rates outside [0, 1), an unknown formulation or
            `constant_branches`, a series of another length or number of channels.
    """

    def __init__(
        self,
        *,
        key: tf.Tensor,
        length: int = 500,
        channels: int = 1,
        classes: int = 2,
        blocks: int = 4,
        heads: int = 4,
        key_dim: int = 256,
        hidden: int = 4,
        dropout: float = 0.25,
        head_units: int = 128,
        head_dropout: float = 0.4,
        constant_branches: str = "compute",
        formulation: str = "auto",
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        if blocks < 0:
            raise ValueError(f"blocks must be at least 0, got {blocks}")
        self.length, self.channels, self.dtype = length, channels, dtype
        self.blocks = [
            PostNormBlock(
                width=channels,
                heads=heads,
                key_dim=key_dim,
                hidden=hidden,
                dropout=dropout,
                site=10 * (i + 1),
                constant_branches=constant_branches,
                formulation=formulation,
                key=random.fold_in(key, 10 + i),
                dtype=dtype,
            )
            for i in range(blocks)
        ]
        self.head = Dense(inputs=length, units=head_units, key=random.fold_in(key, 0), dtype=dtype)
        self.dropout = Dropout(head_dropout, site=0, dtype=dtype)
        self.logits = Dense(inputs=head_units, units=classes, key=random.fold_in(key, 1), dtype=dtype)

    def __call__(self, series: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        check_series(series, self.length, self.channels)
        x = tf.cast(series, self.dtype)
        for block in self.blocks:
            x = block(x, training=training, key=key)  # (B, T, C)
        x = tf.cast(x, statistics_dtype(self.dtype))
        x = tf.reduce_mean(x, axis=2)  # (B, T): over the features; the text's "channels_first" pooling does this
        x = self.dropout(relu(self.head(x)), training=training, key=key)  # (B, head_units)
        return self.logits(x)  # (B, classes)

    def attention_maps(self, series: tf.Tensor) -> list[tf.Tensor]:
        """Return each block's attention weights (B, N, T, T) in inference."""
        x, maps = tf.cast(series, self.dtype), []
        for block in self.blocks:
            maps.append(block.weights(x))
            x = block(x)
        return maps


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
        window, stride: of the tokens, in time steps.
        shift: greatest shift in training, as a share of the length.
        dropout: before the logits.
        formulation: of attention, see `MultiHeadAttention`.

    Raises:
        ValueError: for sizes below 1, a window that is no multiple of the stride, a width that is odd or no multiple of
            the heads, a rate or a shift outside [0, 1), a series of another length or with more than one channel.
    """

    def __init__(
        self,
        *,
        key: tf.Tensor,
        length: int = 500,
        classes: int = 2,
        window: int = 64,
        stride: int = 8,
        width: int = 64,
        blocks: int = 2,
        heads: int = 4,
        dropout: float = 0.3,
        shift: float = 0.1,
        formulation: str = "auto",
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        for name, value in (("blocks", blocks), ("heads", heads)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if width % heads:
            raise ValueError(f"width must be a multiple of the {heads} heads, got {width}")
        if not 0 <= shift < 1:
            raise ValueError(f"shift must be at least 0 and below 1, such as 0.1, got {shift}")
        self.length, self.dtype = length, dtype
        self.shift = RandomShift(round(shift * length), site=0)
        self.tokens = SeriesTokens(
            length=length, window=window, stride=stride, width=width, key=random.fold_in(key, 0), dtype=dtype
        )
        self.blocks = [
            AttentionBlock(
                width=width,
                heads=heads,
                key_dim=width // heads,
                dropout=0.0,
                site=10 * (i + 1),
                formulation=formulation,
                key=random.fold_in(key, 10 + i),
                dtype=dtype,
            )
            for i in range(blocks)
        ]
        self.norm = LayerNorm(width=width, dtype=dtype)
        self.dropout = Dropout(dropout, site=1, dtype=dtype)
        self.logits = Dense(inputs=width, units=classes, key=random.fold_in(key, 1), dtype=dtype)

    def __call__(self, series: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        check_series(series, self.length, 1)
        x = self.tokens(self.shift(series[:, :, 0], training=training, key=key))  # (B, S, D)
        for block in self.blocks:
            x = block(x, training=training, key=key)  # (B, S, D)
        x = global_average_pool(self.norm(x))  # (B, D)
        return self.logits(self.dropout(x, training=training, key=key))  # (B, classes)

    def attention_maps(self, series: tf.Tensor) -> list[tf.Tensor]:
        """Return each block's attention weights (B, N, S, S) in inference."""
        x, maps = self.tokens(series[:, :, 0]), []
        for block in self.blocks:
            maps.append(block.weights(x))
            x = block(x)
        return maps


def check_series(series: tf.Tensor, length: int, channels: int) -> None:
    """Raise ValueError unless `series` is (B, length, channels)."""
    if series.shape.rank != 3 or tuple(series.shape[1:]) != (length, channels):
        raise ValueError(f"the model takes series (B, {length}, {channels}), got {tuple(series.shape)}")
