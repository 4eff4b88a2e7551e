"""Convolution of images and series (cross-correlation, as every deep-learning library means it).

Glossary: B batch, H W C image, H' W' output size, T C series, T' its output's length, K kernel size, F filters.
"""

import tensorflow as tf

from tfcore.context import is_xla
from tfcore.ops.parameters import multiply_parameter
from tfcore.ops.patches import Window, extract_patches


def convolve(
    x: tf.Tensor,
    kernel: tf.Tensor,
    *,
    stride: int = 1,
    padding: str = "SAME",
    formulation: str = "tensorflow",
) -> tf.Tensor:
    """y[b, i, j, f] = Σ_{u, v, c} padded[b, i·s + u, j·s + v, c] · kernel[u, v, c, f].

    (B, H, W, C), (K, K, C, F) -> (B, H', W', F). Source: LeCun et al. 1998, section II.A.

    `formulation`: "tensorflow" calls the library's operation (the fast one); "patches" shows what it computes.

    Raises:
        ValueError: for an unknown formulation or padding, sizes below 1, or channels that do not match the kernel's.
    """
    if kernel.shape[0] != kernel.shape[1] or kernel.shape[2] != x.shape[3]:
        raise ValueError(
            f"a kernel of shape {tuple(kernel.shape)} does not fit an image of {x.shape[3]} channels: "
            "expected (K, K, channels, filters)"
        )
    window = Window(int(kernel.shape[0]), stride, padding)
    if formulation not in FORMULATIONS:
        raise ValueError(f"formulation must be one of {', '.join(FORMULATIONS)}, got {formulation!r}")
    return FORMULATIONS[formulation](x, kernel, window)


def convolve_patches(x: tf.Tensor, kernel: tf.Tensor, window: Window) -> tf.Tensor:
    """Convolution as one matrix product: every patch a row, every filter a column."""
    patches = extract_patches(
        x,
        kernel_size=window.kernel_size,
        stride=window.stride,
        padding=window.padding,
    )  # (B, H', W', K·K, C)
    _, height, width, taps, channels = patches.shape
    rows = tf.reshape(patches, [-1, taps * channels])  # (B·H'·W', K·K·C)
    columns = tf.reshape(kernel, [taps * channels, -1])  # (K·K·C, F)
    return tf.reshape(rows @ columns, [-1, height, width, kernel.shape[3]])  # (B, H', W', F)


def convolve_tensorflow(x: tf.Tensor, kernel: tf.Tensor, window: Window) -> tf.Tensor:
    """Convolution by TensorFlow's operation (oneDNN, cuDNN or XLA); of single pixels it is a matrix product.

    As such its gradient does not go through XLA's convolution of thin channels, which is slow on CPU: the INN's step
    (patches, batch 256, compiled, 2 cores of an AMD EPYC) took 34 ms with it and takes 24. And where there is a stride,
    the gradient of TensorFlow's operation writes outside of its memory (2.21 by oneDNN on CPU, (5, 32, 32, 4) to 6
    filters with stride 2: the process dies).
    """
    if window.kernel_size == 1:
        if window.stride > 1:
            x = x[:, :: window.stride, :: window.stride]  # (B, H', W', C)
        pixels = tf.reshape(x, [-1, x.shape[3]])  # (B·H'·W', C)
        return tf.reshape(pixels @ kernel[0, 0], [-1, *x.shape[1:3], kernel.shape[3]])  # (B, H', W', F)
    return tf.nn.conv2d(x, kernel, strides=window.stride, padding=window.padding)  # (B, H', W', F)


FORMULATIONS = {"tensorflow": convolve_tensorflow, "patches": convolve_patches}


def convolve_depthwise(
    x: tf.Tensor,
    kernel: tf.Tensor,
    *,
    stride: int = 1,
    padding: str = "SAME",
    formulation: str = "auto",
) -> tf.Tensor:
    """y[b, i, j, c] = Σ_{u, v} padded[b, i·s + u, j·s + v, c] · kernel[u, v, c, 0]: each channel by itself.

    (B, H, W, C), (K, K, C, 1) -> (B, H', W', C). Source: Howard et al. 2017, arXiv 1704.04861, equation 3.

    `formulation`: "tensorflow" calls the library's operation, "shifted" shows what it computes, tap by tap; "auto"
    takes "shifted" where XLA compiles, whose depthwise convolution is slow on CPU (`tfcore/ops/involution.py`).

    Raises:
        ValueError: for an unknown formulation or padding, sizes below 1, or channels that do not match the kernel's.
    """
    if kernel.shape[0] != kernel.shape[1] or tuple(kernel.shape[2:]) != (x.shape[3], 1):
        raise ValueError(
            f"a depthwise kernel of shape {tuple(kernel.shape)} does not fit an image of {x.shape[3]} channels: "
            "expected (K, K, channels, 1)"
        )
    window = Window(int(kernel.shape[0]), stride, padding)
    if formulation == "auto":
        formulation = "shifted" if is_xla() else "tensorflow"
    if formulation not in DEPTHWISE_FORMULATIONS:
        known = ", ".join((*DEPTHWISE_FORMULATIONS, "auto"))
        raise ValueError(f"formulation must be one of {known}, got {formulation!r}")
    return DEPTHWISE_FORMULATIONS[formulation](x, kernel, window)


def convolve_depthwise_shifted(x: tf.Tensor, kernel: tf.Tensor, window: Window) -> tf.Tensor:
    """Depthwise convolution as a sum of shifted images, each times its tap's weight of each channel."""
    weights = tf.unstack(tf.reshape(kernel, [-1, kernel.shape[2]]))  # K·K of (C,)
    taps = window.taps(x)  # K·K of (B, H', W', C)
    return tf.add_n([multiply_parameter(tap, weight) for tap, weight in zip(taps, weights, strict=True)])


def convolve_depthwise_tensorflow(x: tf.Tensor, kernel: tf.Tensor, window: Window) -> tf.Tensor:
    """Depthwise convolution by TensorFlow's operation."""
    return tf.nn.depthwise_conv2d(x, kernel, [1, window.stride, window.stride, 1], window.padding)  # (B, H', W', C)


DEPTHWISE_FORMULATIONS = {"tensorflow": convolve_depthwise_tensorflow, "shifted": convolve_depthwise_shifted}


def convolve_series(x: tf.Tensor, kernel: tf.Tensor, *, stride: int = 1, padding: str = "SAME") -> tf.Tensor:
    """y[b, t, f] = Σ_{u, c} padded[b, t·s + u, c] · kernel[u, c, f], along time: (B, T, C), (K, C, F) -> (B, T', F).

    By TensorFlow's operation, as an image of one row. Source: Waibel et al. 1989, section II.

    Raises:
        ValueError: for an unknown padding, sizes below 1, or channels that do not match the kernel's.
    """
    if kernel.shape[1] != x.shape[2]:
        raise ValueError(
            f"a kernel of shape {tuple(kernel.shape)} does not fit a series of {x.shape[2]} channels: "
            "expected (K, channels, filters)"
        )
    Window(int(kernel.shape[0]), stride, padding)
    row = tf.nn.conv2d(tf.expand_dims(x, 1), kernel[None], strides=[1, stride], padding=padding)  # (B, 1, T', F)
    return tf.squeeze(row, axis=1)  # (B, T', F)
