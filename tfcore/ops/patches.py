"""Sliding windows over images, written by hand: geometry, shifted slices ("taps") and patch extraction.

Glossary: B batch, H W C image, H' W' output size, K kernel (window) size, s stride. A *tap* is the image as seen
through one of the K·K positions of the window: a strided slice of the padded image, of the output's size.
"""

import dataclasses

import tensorflow as tf

PADDINGS = ("SAME", "VALID")


@dataclasses.dataclass(frozen=True)
class Window:
    """Geometry of a square sliding window; refuses impossible values when it is built.

    Raises ValueError for a kernel size or stride below 1 and for an unknown padding.
    """

    kernel_size: int
    stride: int = 1
    padding: str = "SAME"

    def __post_init__(self):
        for name in ("kernel_size", "stride"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.padding not in PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {self.padding!r}")

    def output_size(self, size: int) -> int:
        """Number of window positions along an axis: ⌈n / s⌉ for SAME, ⌊(n − K) / s⌋ + 1 for VALID."""
        if self.padding == "SAME":
            return -(-size // self.stride)
        if size < self.kernel_size:
            raise ValueError(
                f"a VALID window spanning {self.kernel_size} pixels does not fit an image of size {size}: "
                "use a smaller kernel_size, or padding SAME"
            )
        return (size - self.kernel_size) // self.stride + 1

    def padding_of(self, size: int) -> tuple[int, int]:
        """Zeros (before, after) along an axis; an odd total puts the extra zero after, as TensorFlow does."""
        if self.padding == "VALID":
            return 0, 0
        total = max((self.output_size(size) - 1) * self.stride + self.kernel_size - size, 0)
        return total // 2, total - total // 2

    def pad(self, x: tf.Tensor, value: float = 0) -> tf.Tensor:
        """(B, H, W, C) -> (B, H + padding, W + padding, C), `value` around the image."""
        _, height, width, _ = x.shape
        padding = [[0, 0], self.padding_of(height), self.padding_of(width), [0, 0]]
        return tf.pad(x, padding, constant_values=value)

    def tap_slices(self, height: int, width: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """For each of the K·K taps in row-major order: (begin, end) of its slice of the padded image, as (row, column).

        The slice's step is the stride, so it holds H'·W' positions.
        """
        rows = (self.output_size(height) - 1) * self.stride + 1
        columns = (self.output_size(width) - 1) * self.stride + 1
        offsets = range(self.kernel_size)
        return [((i, j), (i + rows, j + columns)) for i in offsets for j in offsets]

    def taps(self, x: tf.Tensor, value: float = 0) -> list[tf.Tensor]:
        """(B, H, W, C) -> K·K slices of shape (B, H', W', C) of the image padded with `value`."""
        _, height, width, _ = x.shape
        padded, s = self.pad(x, value), self.stride
        return [
            padded[:, top:bottom:s, left:right:s, :] for (top, left), (bottom, right) in self.tap_slices(height, width)
        ]


def extract_patches(x: tf.Tensor, *, kernel_size: int, stride: int = 1, padding: str = "SAME") -> tf.Tensor:
    """Cut out the K×K neighbourhood at each window position: (B, H, W, C) -> (B, H', W', K·K, C).

    patch[b, i, j, u·K + v, c] = padded[b, i·s + u, j·s + v, c]. Taps are in row-major order. (The "im2col" of
    Chellapilla et al. 2006, section 2.1; `tf.image.extract_patches` returns the same values as (B, H', W', K·K·C).)

    Raises:
        ValueError: for sizes below 1, an unknown padding, or a VALID window larger than the image.
    """
    return tf.stack(Window(kernel_size, stride, padding).taps(x), axis=3)  # (B, H', W', K·K, C)
