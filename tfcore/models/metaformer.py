"""A small network of the MetaFormer form (Yu et al. 2022, arXiv 2111.11418) whose mixer of positions is an involution.

The form is what all such networks share: a mixer that exchanges between positions, a network that works on each
position by itself, residuals around them. What the mixer is can be chosen, so that its worth can be measured.

Glossary: B batch, H W C image, K kernel size, G groups.
"""

import dataclasses

import tensorflow as tf

from tfcore import random
from tfcore.config import Config
from tfcore.layers.augmentation import Normalization
from tfcore.layers.conv import Conv2D, DepthwiseConv2D
from tfcore.layers.dense import Dense
from tfcore.layers.feedforward import ChannelMlp
from tfcore.layers.involution import Involution
from tfcore.layers.normalization import BatchNorm
from tfcore.layers.sites import check_sites
from tfcore.layers.stochastic_depth import StochasticDepth, linear_rates
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.pooling import average_pool, global_average_pool

MIXERS = ("involution", "depthwise", "none")
SHARING = ("none", "stage", "width")
PER_STAGE = ("blocks", "mlp_widths", "kernel_sizes", "groups", "bottlenecks")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaFormerConfig(Config):
    """What a `MetaFormer` is made of; tuples have a number for each stage.

    Args:
        widths: channels; blocks: how many; mlp_widths: units of the hidden layer between channels and channels.
        mixer: "involution"; "depthwise" puts a depthwise convolution in its place, "none" nothing.
        kernel_sizes: K, of involution or depthwise convolution.
        groups, bottlenecks: G, and the channels from which an involution's kernel is made.
        share_mlp: "none": each block has its own; "stage": the blocks of a stage share one; "width": all stages whose
            `widths` and `mlp_widths` are equal do.
        stochastic_depth: rate of the last block, see `tfcore.layers.stochastic_depth`.
        formulation: of the involutions, see `Involution`.

    Raises:
        ValueError: for tuples of unequal lengths or with numbers below 1, an unknown word, a rate outside [0, 1), and
            fields that the mixer does not use.
    """

    widths: tuple[int, ...] = (16, 40, 40)
    blocks: tuple[int, ...] = (2, 3, 2)
    mlp_widths: tuple[int, ...] = (32, 80, 80)
    mixer: str = "involution"
    kernel_sizes: tuple[int, ...] = (3, 3, 3)
    groups: tuple[int, ...] = (4, 8, 8)
    bottlenecks: tuple[int, ...] = (2, 4, 4)
    share_mlp: str = "width"
    stochastic_depth: float = 0.0
    formulation: str = "factored"

    def __post_init__(self):
        self.check("widths", len(self.widths) > 0, "a number for each stage, such as (16, 40, 40)")
        for field in ("widths", *PER_STAGE):
            numbers = getattr(self, field)
            wanted = f"{len(self.widths)} numbers of at least 1, one for each of widths"
            self.check(field, len(numbers) == len(self.widths) and min(numbers) >= 1, wanted)
        self.check_one_of("mixer", MIXERS)
        self.check_one_of("share_mlp", SHARING)
        self.check("stochastic_depth", 0 <= self.stochastic_depth < 1, "at least 0 and below 1, such as 0.1")
        self.refuse_unused(self.mixer == "involution", ["groups", "bottlenecks", "formulation"], "mixer involution")
        self.refuse_unused(self.mixer != "none", ["kernel_sizes"], "mixer involution or depthwise")


class MetaFormerBlock(Module):
    """x + mlp(mixer(batch_norm(x))): (B, H, W, channels) -> (B, H, W, channels).

    One residual around mixer and network, as in ConvNeXt (Liu et al. 2022, arXiv 2201.03545), where the paper's
    MetaFormer has one around each.

    Args:
        mixer: of positions; None leaves each position alone.
        mlp: given, since blocks may share it.
        rate, site: of the branch's stochastic depth.
    """

    def __init__(
        self,
        mixer: Involution | DepthwiseConv2D | None,
        mlp: ChannelMlp,
        *,
        channels: int,
        rate: float,
        site: int,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        self.norm = BatchNorm(channels=channels, formulation="auto", dtype=dtype)
        self.mixer, self.mlp = mixer, mlp
        self.drop = StochasticDepth(rate, site=site, dtype=dtype)

    def __call__(self, x: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        y = self.norm(x, training=training)  # (B, H, W, C)
        if isinstance(self.mixer, Involution):
            y, _ = self.mixer(y, training=training)
        elif self.mixer is not None:
            y = self.mixer(y)
        return x + self.drop(self.mlp(y), training=training, key=key)


class MetaFormer(Module):
    """Images (B, image_size, image_size, in_channels) in 0 .. 255 -> logits (B, classes).

    Normalization by the train set → convolution 3×3 to `widths[0]` → stages of `MetaFormerBlock`, between them average
    pooling by 2 and, where the width changes, a 1×1 convolution → batch norm → ReLU → mean over the positions → Dense
    `classes`. No convolution has a bias that the next batch norm would take away. 12,466 trained parameters by default.

    Raises:
        ValueError: for an image size that the poolings do not divide, and what the layers refuse.
    """

    def __init__(
        self,
        config: MetaFormerConfig,
        *,
        key: tf.Tensor,
        image_size: int = 32,
        in_channels: int = 3,
        classes: int = 10,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        widths, shrink = config.widths, 2 ** (len(config.widths) - 1)
        if image_size < shrink or image_size % shrink:
            raise ValueError(f"MetaFormer: image_size must be a positive multiple of {shrink}, got {image_size}")
        self.normalization = Normalization(channels=in_channels, dtype=dtype)
        self.stem = Conv2D(
            channels=in_channels,
            filters=widths[0],
            kernel_size=3,
            use_bias=False,
            key=random.fold_in(key, 0),
            dtype=dtype,
        )
        self.projections = {
            str(stage): Conv2D(
                channels=widths[stage - 1],
                filters=widths[stage],
                kernel_size=1,
                use_bias=False,
                key=random.fold_in(key, 10 + stage),
                dtype=dtype,
            )
            for stage in range(1, len(widths))
            if widths[stage] != widths[stage - 1]
        }
        # Listed in front of the blocks, so that a shared one has this path.
        self.mlps: list[ChannelMlp] = []
        self.blocks: list[MetaFormerBlock] = []
        self._stages = [stage for stage, count in enumerate(config.blocks) for _ in range(count)]  # of each block
        self._add_blocks(config, key, dtype)
        self.norm = BatchNorm(channels=widths[-1], formulation="auto", dtype=dtype)
        self.logits = Dense(inputs=widths[-1], units=classes, key=random.fold_in(key, 1), dtype=dtype)
        check_sites(self)

    def _add_blocks(self, config: MetaFormerConfig, key: tf.Tensor, dtype: tf.DType) -> None:
        shared: dict[object, ChannelMlp] = {}
        rates = linear_rates(config.stochastic_depth, len(self._stages))
        for i, (stage, rate) in enumerate(zip(self._stages, rates, strict=True)):
            channels, hidden = config.widths[stage], config.mlp_widths[stage]
            block_key = random.fold_in(key, 100 + i)
            sharers = {"none": i, "stage": stage, "width": (channels, hidden)}[config.share_mlp]
            if sharers not in shared:
                shared[sharers] = ChannelMlp(
                    channels=channels, hidden=hidden, key=random.fold_in(block_key, 1), dtype=dtype
                )
                self.mlps.append(shared[sharers])
            mixer = _mixer(config, stage, random.fold_in(block_key, 0), dtype)
            self.blocks.append(
                MetaFormerBlock(mixer, shared[sharers], channels=channels, rate=rate, site=i, dtype=dtype)
            )

    def __call__(self, images: tf.Tensor, *, training: bool = False, key: tf.Tensor | None = None) -> tf.Tensor:
        x, before = self.stem(self.normalization(images)), 0  # (B, H, W, C)
        for block, stage in zip(self.blocks, self._stages, strict=True):
            if stage > before:
                x, before = average_pool(x, kernel_size=2), stage  # (B, H/2, W/2, C)
                if str(stage) in self.projections:
                    x = self.projections[str(stage)](x)  # (B, H/2, W/2, C')
            x = block(x, training=training, key=key)
        x = relu(self.norm(x, training=training))
        return self.logits(global_average_pool(x))  # (B, classes)


def _mixer(
    config: MetaFormerConfig, stage: int, key: tf.Tensor, dtype: tf.DType
) -> Involution | DepthwiseConv2D | None:
    channels, size = config.widths[stage], config.kernel_sizes[stage]
    if config.mixer == "none":
        return None
    if config.mixer == "depthwise":
        return DepthwiseConv2D(channels=channels, kernel_size=size, key=key, dtype=dtype)
    return Involution(
        in_channels=channels,
        channels=config.bottlenecks[stage],
        reduction_ratio=1,
        groups=config.groups[stage],
        kernel_size=size,
        batch_norm=False,
        formulation=config.formulation,
        key=key,
        dtype=dtype,
    )
