"""A small network for series: convolutions of several lengths, then attention between what they have found.

Glossary: B batch, T time steps, C channels (features a step), S tokens, D width.
"""

import dataclasses
import itertools

import tensorflow as tf

from tfcore import random
from tfcore.config import Config
from tfcore.initializers import he_uniform
from tfcore.layers.conv import Conv1D
from tfcore.layers.dense import Dense
from tfcore.layers.dropout import Dropout
from tfcore.layers.feedforward import FeedForward
from tfcore.layers.normalization import BatchNorm, LayerNorm
from tfcore.layers.series import RandomShift
from tfcore.layers.sites import check_sites
from tfcore.layers.stochastic_depth import linear_rates
from tfcore.layers.transformer import PreNormBlock
from tfcore.models.timeseries import check_series
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.pooling import global_average_pool
from tfcore.ops.positions import sinusoids


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionTransformerConfig(Config):
    """What a `ConvolutionTransformer` is made of.

    Args:
        kernels: lengths of the first convolutions, side by side, each with `stem_filters` filters.
        filters: of the convolutions that follow, one after the other, of length `kernel_size` and with stride 2; the
            last of them is the width D of the tokens.
        blocks: of attention, 0 for a convolution network; `heads`, `mlp_width`: of each.
        dropout: inside the blocks; `head_dropout`: before the logits.
        stochastic_depth: rate of the last block, see `tfcore.layers.stochastic_depth`.
        shift: greatest shift in training, as a share of the length.
        formulation: of attention, see `MultiHeadAttention`.

    Raises:
        ValueError: for no kernels or filters, a width that is no multiple of the heads, rates outside [0, 1), and for
            what nothing uses without blocks.
    """

    kernels: tuple[int, ...] = (10, 20, 40)
    stem_filters: int = 32
    filters: tuple[int, ...] = (64, 64)
    kernel_size: int = 5
    blocks: int = 1
    heads: int = 4
    mlp_width: int = 128
    dropout: float = 0.1
    stochastic_depth: float = 0.0
    head_dropout: float = 0.2
    shift: float = 0.1
    formulation: str = "auto"

    def __post_init__(self):
        self.check("kernels", len(self.kernels) > 0, "the length of each first convolution, such as (10, 20, 40)")
        self.check("filters", len(self.filters) > 0, "a number for each further convolution, such as (64, 64)")
        self.check("blocks", self.blocks >= 0, "at least 0")
        of_blocks = ("heads", "mlp_width", "dropout", "stochastic_depth", "formulation")
        self.refuse_unused(self.blocks > 0, of_blocks, "blocks of at least 1")
        if self.blocks:
            divides = self.heads >= 1 and self.filters[-1] % self.heads == 0
            self.check("heads", divides, f"a divisor of the last of filters, {self.filters[-1]}")
        for field in ("stochastic_depth", "shift"):
            self.check(field, 0 <= getattr(self, field) < 1, "at least 0 and below 1, such as 0.1")


class ConvolutionTransformer(Module):
    """Series (B, T, C) -> logits (B, classes), of any length.

    In training a random shift in time → convolutions of all `kernels` side by side → batch norm → ReLU (the mixture of
    lengths of InceptionTime, Ismail Fawaz et al. 2020, and LITE, 2023) → for each of `filters` convolution with stride
    2 → batch norm → ReLU → plus the sinusoids of the tokens' places → `blocks` pre-norm blocks → layer norm → mean over
    time → dropout → logits. 87,618 parameters by default, for 1 channel and 2 classes.

    Args:
        length: T.
        channels: C.

    Raises:
        ValueError: for sizes below 1, rates outside [0, 1), an odd width, a series of another length or number of
            channels.
    """

    def __init__(
        self,
        config: ConvolutionTransformerConfig,
        *,
        key: tf.Tensor,
        length: int = 500,
        channels: int = 1,
        classes: int = 2,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        width = config.filters[-1]
        self.length, self.channels, self.dtype = length, channels, dtype
        self.shift = RandomShift(round(config.shift * length), site=0)
        self.stem = [
            _convolution(channels, config.stem_filters, size, 1, random.fold_in(key, 10 + i), dtype)
            for i, size in enumerate(config.kernels)
        ]
        widths = (config.stem_filters * len(config.kernels), *config.filters)
        self.convolutions = [
            _convolution(before, after, config.kernel_size, 2, random.fold_in(key, 30 + i), dtype)
            for i, (before, after) in enumerate(itertools.pairwise(widths))
        ]
        # Running statistics of about ten batches: a set of 80 series has five an epoch.
        self.norms = [BatchNorm(channels=count, momentum=0.9, formulation="auto", dtype=dtype) for count in widths]
        tokens = length
        for _ in config.filters:
            tokens = -(-tokens // 2)
        self.positions = sinusoids(tokens, width, step=2 ** len(config.filters))  # (S, D)
        self.blocks = [
            _block(config, rate, 10 * (i + 1), random.fold_in(key, 50 + i), dtype)
            for i, rate in enumerate(linear_rates(config.stochastic_depth, config.blocks))
        ]
        self.norm = LayerNorm(width=width, dtype=dtype)
        self.dropout = Dropout(config.head_dropout, site=1, dtype=dtype)
        self.logits = Dense(inputs=width, units=classes, key=random.fold_in(key, 0), dtype=dtype)
        check_sites(self)

    def __call__(self, series: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        check_series(series, self.length, self.channels)
        x = self.shift(tf.cast(series, self.dtype), training=training, key=key)  # (B, T, C)
        x = tf.concat([convolution(x) for convolution in self.stem], axis=2)  # (B, T, kernels · stem_filters)
        x = relu(self.norms[0](x, training=training))
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = relu(norm(convolution(x), training=training))  # (B, T/2, F), (B, T/4, F), ...: (B, S, D)
        x = x + tf.constant(self.positions, self.dtype)
        for block in self.blocks:
            x = block(x, training=training, key=key)  # (B, S, D)
        x = global_average_pool(self.norm(x))  # (B, D)
        return self.logits(self.dropout(x, training=training, key=key))  # (B, classes)


def _convolution(channels: int, filters: int, size: int, stride: int, key: tf.Tensor, dtype: tf.DType) -> Conv1D:
    return Conv1D(
        channels=channels,
        filters=filters,
        kernel_size=size,
        stride=stride,
        use_bias=False,
        initializer=he_uniform,
        key=key,
        dtype=dtype,
    )


def _block(
    config: ConvolutionTransformerConfig, rate: float, site: int, key: tf.Tensor, dtype: tf.DType
) -> PreNormBlock:
    width = config.filters[-1]
    feed_forward = FeedForward(
        inputs=width,
        hidden=config.mlp_width,
        units=width,
        dropout=config.dropout,
        site=site + 1,
        key=random.fold_in(key, 1),
        dtype=dtype,
    )
    return PreNormBlock(
        feed_forward,
        width=width,
        heads=config.heads,
        key_dim=width // config.heads,
        dropout=config.dropout,
        site=site,
        rate=rate,
        formulation=config.formulation,
        key=key,
        dtype=dtype,
    )
