"""The time-series Transformer of system 4: faithful to the Keras text.

Glossary: B batch, T time steps, C channels (features a step).
"""

import tensorflow as tf

from tfcore import random
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.transformer import PostNormBlock
from tfcore.module import Module
from tfcore.ops.activations import relu


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


def check_series(series: tf.Tensor, length: int, channels: int) -> None:
    """Raise ValueError unless `series` is (B, length, channels)."""
    if series.shape.rank != 3 or tuple(series.shape[1:]) != (length, channels):
        raise ValueError(f"the model takes series (B, {length}, {channels}), got {tuple(series.shape)}")
