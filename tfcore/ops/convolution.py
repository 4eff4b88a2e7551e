"""Two-dimensional convolution (cross-correlation, as every deep-learning library means it).

Glossary: B batch, H W C image, H' W' output size, K kernel size, F filters.
"""

import tensorflow as tf

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
    (patches, batch 256, compiled, 2 cores of an AMD EPYC) took 34 ms with it and takes 24.
    """
    if window.kernel_size == 1 and window.stride == 1:
        pixels = tf.reshape(x, [-1, x.shape[3]])  # (B·H·W, C)
        return tf.reshape(pixels @ kernel[0, 0], [-1, *x.shape[1:3], kernel.shape[3]])  # (B, H, W, F)
    return tf.nn.conv2d(x, kernel, strides=window.stride, padding=window.padding)  # (B, H', W', F)


FORMULATIONS = {"tensorflow": convolve_tensorflow, "patches": convolve_patches}
