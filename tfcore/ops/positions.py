"""Positions as numbers: Fourier features of a grid, sines and cosines of a time."""

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


def sinusoids(count: int, width: int, *, step: int = 1) -> np.ndarray:
    """Return (count, width) float64: sines, then cosines, of the positions 0, step, 2 · step, …

    At width/2 rates from 1 down towards 1/10,000 in equal ratios. Source: Vaswani et al. 2017, arXiv 1706.03762,
    section 3.5, which takes sines and cosines in turn.

    Raises:
        ValueError: for a count or step below 1, or a width that is not a positive even number.
    """
    for name, value in (("count", count), ("step", step), ("width", width)):
        if value < 1:
            raise ValueError(f"sinusoids: {name} must be at least 1, got {value}")
    if width % 2:
        raise ValueError(f"sinusoids: width must be even, a sine and a cosine for each rate, got {width}")
    rates = 10000.0 ** (-np.arange(width // 2) / (width // 2))  # (width / 2,)
    angles = step * np.arange(count)[:, None] * rates  # (count, width / 2)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
