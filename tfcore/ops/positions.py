"""Positions as numbers: Fourier features of a grid."""

import math

import numpy as np


def fourier_features(height: int, width: int, *, bands: int) -> np.ndarray:
    """Return (height · width, 4 · bands + 2) float64: position and its Fourier features, row by row.

    For each axis, with p from −1 to 1 and `bands` frequencies f evenly spaced from 1 to half its size (Nyquist):
    sin(f π p), cos(f π p) and p itself. Source: Jaegle et al. 2021, arXiv 2103.03206, section 3.2.

    Raises:
        ValueError: for sizes or bands below 1.
    """
    for name, value in (("height", height), ("width", width), ("bands", bands)):
        if value < 1:
            raise ValueError(f"fourier_features: {name} must be at least 1, got {value}")
    features = []
    for axis, size in enumerate((height, width)):
        position = np.linspace(-1.0, 1.0, size)  # (size,)
        grid = np.broadcast_to(position[:, None] if axis == 0 else position, (height, width)).reshape(-1, 1)  # (H·W, 1)
        angles = math.pi * grid * np.linspace(1.0, max(size / 2, 1.0), bands)  # (H·W, bands)
        features += [np.sin(angles), np.cos(angles), grid]
    return np.concatenate(features, axis=1)
