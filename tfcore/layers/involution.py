"""The involution layer: it writes a kernel for each pixel from the pixel itself, then applies it.

Glossary: B batch, H W C image, H' W' output size, K kernel size, G groups, r reduction ratio.
"""

from typing import Any

import tensorflow as tf

from tfcore import random
from tfcore.layers.conv import Conv2D
from tfcore.layers.normalization import BatchNorm
from tfcore.module import Module
from tfcore.ops.activations import relu
from tfcore.ops.involution import FORMULATIONS, GROUP_ORDERS, centred_window, check_groups, involve, involve_factored
from tfcore.ops.pooling import average_pool, global_average_pool

# What the layer knows: those of the op, the one that needs `expand`, a control.
LAYER_FORMULATIONS = (*FORMULATIONS, "factored", "mean")


class Involution(Module):
    """Involution (Li et al. 2021, arXiv 2103.06255, algorithm 1; layout and defaults of the Keras text).

    (B, H, W, in_channels) -> output (B, H', W', in_channels) and kernel (B, H', W', K·K, 1, G), where

        kernel = expand(ReLU(batch_norm(reduce(x'))))    x' = x, or its average pool for stride > 1
        reduce: 1×1 convolution to `channels // reduction_ratio`;  expand: 1×1 convolution to K·K·G

    Args:
        in_channels: channels C of the image, and of the output.
        channels: width that `reduction_ratio` divides, by default C.
        groups: G; the channels of a group share their kernel.
        kernel_size: K, odd.
        stride: distance between output pixels; sizes round up, as with SAME padding.
        reduction_ratio: r, how much narrower the bottleneck is.
        batch_norm: False leaves the batch norm out.
        group_order: "modulo" (channel c in group c mod G, as Keras) or "block" (c div (C/G), as the paper's code).
        formulation: "shifted", "patches" or "factored", see `tfcore.ops.involution`; equal outputs and gradients.
            Factored, the returned kernel is not part of the output's computation: a graph that does not use it leaves
            it out. "mean" is no formulation of involution but its control: at every position the kernel is the image's
            mean kernel, so that it no longer knows what is there.

    Raises:
        ValueError: for an even kernel size, sizes below 1, groups that do not divide C, a reduction ratio above
            `channels`, an unknown group order or formulation.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int | None = None,
        groups: int = 1,
        kernel_size: int = 3,
        stride: int = 1,
        reduction_ratio: int = 2,
        batch_norm: bool = True,
        group_order: str = "modulo",
        formulation: str = "shifted",
        key: tf.Tensor,
        dtype: tf.DType = tf.float32,
    ):
        super().__init__()
        channels = in_channels if channels is None else channels
        centred_window(kernel_size, stride)
        check_groups(in_channels, groups)
        if reduction_ratio < 1 or channels // reduction_ratio < 1:
            raise ValueError(
                f"reduction_ratio must lie in 1 .. channels ({channels}), so that the bottleneck keeps a channel, "
                f"got {reduction_ratio}"
            )
        for name, value, known in (
            ("group_order", group_order, GROUP_ORDERS),
            ("formulation", formulation, LAYER_FORMULATIONS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.kernel_size, self.stride, self.groups = kernel_size, stride, groups
        self.group_order, self.formulation, self.dtype = group_order, formulation, dtype
        bottleneck = channels // reduction_ratio
        self.reduce = Conv2D(
            channels=in_channels, filters=bottleneck, kernel_size=1, key=random.fold_in(key, 0), dtype=dtype
        )
        self.norm = BatchNorm(channels=bottleneck, dtype=dtype) if batch_norm else None
        self.expand = Conv2D(
            channels=bottleneck,
            filters=kernel_size**2 * groups,
            kernel_size=1,
            key=random.fold_in(key, 1),
            dtype=dtype,
        )

    def __call__(self, x: tf.Tensor, *, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.cast(x, self.dtype)
        if self.stride > 1:
            source = average_pool(x, kernel_size=self.stride, padding="SAME")  # (B, H', W', C)
        else:
            source = x
        hidden = self.reduce(source)  # (B, H', W', channels // r)
        if self.norm is not None:
            hidden = self.norm(hidden, training=training)
        hidden = relu(hidden)
        if self.formulation == "mean":
            # The kernel is affine in it: the mean kernel is that of the mean.
            mean = tf.cast(global_average_pool(hidden)[:, None, None], hidden.dtype)  # (B, 1, 1, channels // r)
            hidden = tf.broadcast_to(mean, tf.shape(hidden))
        kernel = self.expand(hidden)  # (B, H', W', K·K·G)
        _, height, width, _ = kernel.shape
        kernel = tf.reshape(kernel, [-1, height, width, self.kernel_size**2, self.groups])  # (B, H', W', K·K, G)
        geometry: dict[str, Any] = {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "group_order": self.group_order,
        }
        if self.formulation in ("factored", "mean"):
            weight, bias = tf.cast(self.expand.kernel[0, 0], self.dtype), tf.cast(self.expand.bias, self.dtype)
            output = involve_factored(x, hidden, weight, bias, **geometry)  # (B, H', W', C)
        else:
            output = involve(x, kernel, formulation=self.formulation, **geometry)  # (B, H', W', C)
        return output, kernel[:, :, :, :, None, :]  # the Keras text's shape: (B, H', W', K·K, 1, G)
