"""Involution (Li et al. 2021, arXiv 2103.06255): a convolution turned inside out.

A convolution's kernel is the same at every position and different for every channel; an involution's kernel is
different at every position and the same for all channels of a group. So it is an *input* here, not a weight.

Glossary: B batch, H W C image, H' W' output size, K kernel size, s stride, G groups; a tap is one of the K·K positions
of the kernel, and the image shifted there (`tfcore/ops/patches.py`). In `tfcore/read_first/inn.py` s and G are 1.
"""

import tensorflow as tf

from tfcore.ops.patches import Window, extract_patches

# Which group a channel c belongs to: the Keras text reshapes channels to (C/G, G), the paper's own code to (G, C/G).
GROUP_ORDERS = ("modulo", "block")  # c mod G; c div (C/G)


def involve(
    x: tf.Tensor,
    kernel: tf.Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    group_order: str = "modulo",
    formulation: str = "shifted",
) -> tf.Tensor:
    """y[b, i, j, c] = Σ_{u, v} kernel[b, i, j, u·K + v, g(c)] · padded[b, i·s + u, j·s + v, c] (equation 3).

    (B, H, W, C), (B, H', W', K·K, G) -> (B, H', W', C) with SAME zero padding and g(c) by `group_order`.

    `formulation`: "patches" holds all K·K neighbours of every pixel at once (the one to study), "shifted" one tap at a
    time, in the forward and in the backward pass.

    Raises:
        ValueError: for an even kernel size (it has no centre), sizes below 1, groups that do not divide the channels,
            a kernel that does not fit the image, an unknown group order or formulation.
    """
    window = centred_window(kernel_size, stride)
    _, height, width, channels = x.shape
    groups = kernel.shape[-1]
    check_groups(channels, groups)
    expected = (window.output_size(height), window.output_size(width), kernel_size**2, groups)
    if tuple(kernel.shape[1:]) != expected:
        raise ValueError(
            f"the kernel has shape (B, {', '.join(map(str, kernel.shape[1:]))}), expected (B, H', W', K·K, G) = "
            f"(B, {', '.join(map(str, expected))}) for an image of {height}×{width} and stride {stride}"
        )
    if group_order not in GROUP_ORDERS:
        raise ValueError(f"group_order must be one of {', '.join(GROUP_ORDERS)}, got {group_order!r}")
    if formulation not in FORMULATIONS:
        raise ValueError(f"formulation must be one of {', '.join(FORMULATIONS)}, got {formulation!r}")
    return FORMULATIONS[formulation](x, kernel, window, group_order)


def centred_window(kernel_size: int, stride: int) -> Window:
    """The window of an involution: SAME padding around a central pixel. Raises ValueError for an even size."""
    window = Window(kernel_size, stride)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, so that a pixel is its centre, got {kernel_size}")
    return window


def check_groups(channels: int, groups: int) -> None:
    """Raise ValueError unless `groups` is at least 1 and divides `channels`."""
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must be a divisor of the image's channels ({channels}), got {groups}")


def involve_patches(x: tf.Tensor, kernel: tf.Tensor, window: Window, group_order: str) -> tf.Tensor:
    """Multiply-add over the materialized neighbourhoods; they take K·K times the memory of the image."""
    patches = extract_patches(x, kernel_size=window.kernel_size, stride=window.stride)  # (B, H', W', K·K, C)
    grouped = _split_groups(patches, kernel.shape[-1], group_order)  # (B, H', W', K·K, ., .)
    weights = tf.expand_dims(kernel, _channel_axis(group_order))  # (B, H', W', K·K, 1, G) or (…, G, 1)
    return _merge_groups(tf.reduce_sum(weights * grouped, axis=3))  # (B, H', W', C)


def involve_shifted(x: tf.Tensor, kernel: tf.Tensor, window: Window, group_order: str) -> tf.Tensor:
    """Multiply-add tap by tap, never holding more than one tap, forward and backward.

    Automatic differentiation would keep each tap alive for the gradient of its product, K·K images in all. The custom
    gradient cuts the tap out of the padded image again instead:

        ∂kernel[t, g] = Σ_{c in g} ∂y[c] · tap_t[c],    ∂padded[slice_t] += kernel[t] · ∂y.
    """

    @tf.custom_gradient
    def multiply_add(x, kernel):
        # In eager mode an outer tape records what happens in here as well, and would keep every tap for it.
        y = _shifted_forward(tf.stop_gradient(x), tf.stop_gradient(kernel), window, group_order)
        return y, lambda upstream: _shifted_backward(x, kernel, upstream, window, group_order)

    return multiply_add(x, kernel)


def involve_factored(
    x: tf.Tensor,
    hidden: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    group_order: str = "modulo",
) -> tf.Tensor:
    """`involve` with the kernel Σ_m hidden[m] · weight[m] + bias, never formed: affine in `hidden`, it factors.

        y = Σ_m hidden[m] · (x ∗ weight[m]) + x ∗ bias,

    M + 1 depthwise convolutions ∗ in which the channels of a group share their taps. (B, H, W, C), (B, H', W', M),
    (M, K·K·G), (K·K·G) -> (B, H', W', C). It pays where M is small: forward and backward at (256, 32, 32, 3), M = 1,
    K = 3, 2 cores of an AMD EPYC, in graph mode 15 ms against 125 ms shifted. XLA's depthwise convolution is slow on
    CPU: compiled, 170 ms against 29 ms.

    Raises:
        ValueError: for an even kernel size, sizes below 1, groups that do not divide the channels, weights for another
            number of taps, an unknown group order.
    """
    window = centred_window(kernel_size, stride)
    channels, taps = x.shape[-1], kernel_size**2
    groups = max(bias.shape[0] // taps, 1)
    check_groups(channels, groups)
    if bias.shape[0] != taps * groups or tuple(weight.shape) != (hidden.shape[-1], taps * groups):
        raise ValueError(
            f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} must be (M, K·K·G) and (K·K·G) for K = "
            f"{kernel_size} and the {hidden.shape[-1]} channels of hidden"
        )
    if group_order not in GROUP_ORDERS:
        raise ValueError(f"group_order must be one of {', '.join(GROUP_ORDERS)}, got {group_order!r}")
    width = channels // groups
    group_of = [c % groups if group_order == "modulo" else c // width for c in range(channels)]

    def convolve(taps_of_groups: tf.Tensor) -> tf.Tensor:
        filters = tf.reshape(taps_of_groups, [kernel_size, kernel_size, groups])  # (K, K, G)
        filters = tf.gather(filters, group_of, axis=-1)[..., None]  # (K, K, C, 1)
        strides = [1, window.stride, window.stride, 1]
        return tf.nn.depthwise_conv2d(x, filters, strides, window.padding)  # (B, H', W', C)

    # Chosen and repeated over the channels by a product with ones in one row: TensorFlow's own broadcast over three of
    # them, and the sum that is its gradient, go an element at a time (7.9 ms against 9.3 of the whole operation, in
    # bfloat16 6.2 and 8.2), and so does the gradient of a slice (at (128, 32, 32, 16), M = 2, G = 4: 13.9 and 15.4).
    pixels = tf.reshape(hidden, [-1, hidden.shape[-1]])  # (B·H'·W', M)
    y = convolve(bias)
    for m in range(hidden.shape[-1]):
        ones = tf.repeat(tf.one_hot([m], hidden.shape[-1], dtype=x.dtype, axis=0), channels, axis=1)  # (M, C)
        y += tf.reshape(pixels @ ones, tf.shape(y)) * convolve(weight[m])
    return y


def _shifted_forward(x, kernel, window, group_order):
    groups, axis = kernel.shape[-1], _channel_axis(group_order) - 1  # the tap axis is gone in a single tap
    padded, s = window.pad(x), window.stride
    total = None
    for t, ((top, left), (bottom, right)) in enumerate(window.tap_slices(*x.shape[1:3])):
        # Each tap waits for the sum so far: TensorFlow's executor would otherwise cut all taps out at once.
        with tf.control_dependencies([] if total is None else [total]):
            tap = _split_groups(padded[:, top:bottom:s, left:right:s, :], groups, group_order)  # (B, H', W', ., .)
            weight = tf.expand_dims(kernel[:, :, :, t, :], axis)  # (B, H', W', 1, G) or (B, H', W', G, 1)
        product = weight * tap
        total = product if total is None else total + product
    return _merge_groups(total)  # (B, H', W', C)


def _shifted_backward(x, kernel, upstream, window, group_order):
    groups, axis = kernel.shape[-1], _channel_axis(group_order) - 1
    padded, s = window.pad(x), window.stride
    upstream = _split_groups(upstream, groups, group_order)  # (B, H', W', ., .)
    grad_padded, grad_kernel = tf.zeros_like(padded), []
    for t, ((top, left), (bottom, right)) in enumerate(window.tap_slices(*x.shape[1:3])):
        with tf.control_dependencies([grad_padded, *grad_kernel[-1:]]):
            tap = _split_groups(padded[:, top:bottom:s, left:right:s, :], groups, group_order)  # (B, H', W', ., .)
            weight = tf.expand_dims(kernel[:, :, :, t, :], axis)  # (B, H', W', 1, G) or (B, H', W', G, 1)
        grad_kernel.append(tf.reduce_sum(upstream * tap, axis=axis))  # (B, H', W', G)
        # Puts the tap's gradient back where its slice was cut out, zeros elsewhere.
        grad_padded += tf.raw_ops.StridedSliceGrad(
            shape=tf.shape(padded),
            begin=[0, top, left, 0],
            end=[0, bottom, right, 0],
            strides=[1, s, s, 1],
            dy=_merge_groups(weight * upstream),
            begin_mask=0b1001,
            end_mask=0b1001,
        )  # (B, H + padding, W + padding, C)
    _, height, width, _ = x.shape
    (top, _), (left, _) = window.padding_of(height), window.padding_of(width)
    grad_x = grad_padded[:, top : top + height, left : left + width, :]  # (B, H, W, C)
    return grad_x, tf.stack(grad_kernel, axis=3)  # (B, H', W', K·K, G)


def _channel_axis(group_order: str) -> int:
    """Where the C/G axis stands in (B, H', W', K·K, ., .)."""
    return 4 if group_order == "modulo" else 5


def _split_groups(x: tf.Tensor, groups: int, group_order: str) -> tf.Tensor:
    """(..., C) -> (..., C/G, G) in modulo order, (..., G, C/G) in block order."""
    width = x.shape[-1] // groups
    split = [width, groups] if group_order == "modulo" else [groups, width]
    return tf.reshape(x, [-1, *x.shape[1:-1], *split])


def _merge_groups(x: tf.Tensor) -> tf.Tensor:
    """Undo `_split_groups`: (..., ., .) -> (..., C)."""
    return tf.reshape(x, [-1, *x.shape[1:-2], x.shape[-2] * x.shape[-1]])


FORMULATIONS = {"patches": involve_patches, "shifted": involve_shifted}
