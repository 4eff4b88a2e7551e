"""Trivial features: numbers that say how an example was stored, or what anyone sees without looking at its form.

Each function takes inputs (n, ...) and returns {name: (n,) float64}. A *storage* feature should say nothing of a class:
how finely values are quantized, where an example stands in its file. A *signal* feature is crude but may be physics: a
loud engine is louder. The step of a grid is one of the signal: where each series is normalized, it is the unit in which
was measured over the series' spread, and tells how large the signal was.
"""

import numpy as np

PLACE = "place in the file"
# Features of how an example was stored; all others are of its signal.
STORAGE = frozenset(
    {
        "distinct values",
        "decimal places",
        "last digit",
        PLACE,
        "exact zeros",
        "values at the minimum",
        "values at the maximum",
        "length without padding",
        "grey pixels",
        "blocks of 8",
    }
)
NOISE = 1e-6  # of a series' range: differences below it are float32's rounding
DECIMALS = 8  # as many are looked at; float32 holds about 7 digits


def of(inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return the trivial features of series (n, T, 1) or of images (n, H, W, 3)."""
    found = of_images(inputs) if inputs.ndim == 4 else of_series(inputs)
    return found | {PLACE: np.arange(len(inputs), dtype=np.float64)}


def of_series(inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Features of series (n, T, 1)."""
    values = inputs[..., 0].astype(np.float64)
    return _of_values(values) | {
        "first value": values[:, 0],
        "last value": values[:, -1],
        "length without padding": np.array([_length(row) for row in values], np.float64),
        "decimal places": np.array([_decimals(row) for row in values], np.float64),
        "last digit": np.array([_last_digit(row) for row in values], np.float64),
    }


def of_images(inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Features of images (n, H, W, 3) uint8: each channel's, and how the picture was made."""
    count = len(inputs)
    found: dict[str, np.ndarray] = {}
    for channel, name in enumerate(("red", "green", "blue")):
        flat = inputs[..., channel].reshape(count, -1)
        found |= {f"{feature}, {name}": values for feature, values in _of_pixels(flat).items()}
    whole = inputs.astype(np.int16)
    border = np.concatenate(
        [whole[:, 0].reshape(count, -1), whole[:, -1].reshape(count, -1), whole[:, :, 0].reshape(count, -1)], axis=1
    )
    spread = whole.max(axis=-1) - whole.min(axis=-1)  # 0 where a pixel is grey
    return found | {
        "grey pixels": (spread == 0).mean(axis=(1, 2)),
        "border, mean": border.mean(axis=1),
        "border, spread": border.std(axis=1),
        "corner pixel": whole[:, 0, 0].mean(axis=-1),
        "blocks of 8": _blockiness(whole[..., 1]),
    }


def _of_values(values: np.ndarray) -> dict[str, np.ndarray]:
    """Of (n, T) floats."""
    ordered = np.sort(values, axis=1)
    steps = np.diff(ordered, axis=1)
    low, high = ordered[:, :1], ordered[:, -1:]
    return {
        "distinct values": 1.0 + (steps > 0).sum(axis=1),
        "grid step": grid_steps(values),
        "exact zeros": (values == 0).sum(axis=1).astype(np.float64),
        "values at the minimum": (values == low).sum(axis=1).astype(np.float64),
        "values at the maximum": (values == high).sum(axis=1).astype(np.float64),
        "minimum": low[:, 0],
        "maximum": high[:, 0],
        "mean": values.mean(axis=1),
        "variance": values.var(axis=1),
    }


def grid_steps(values: np.ndarray) -> np.ndarray:
    """Return the step of the grid on which each series of (n, T) lies, 0 of one that lies on none: (n,)."""
    return np.array([_grid_step(row) for row in np.diff(np.sort(values.astype(np.float64), axis=1), axis=1)])


def _of_pixels(flat: np.ndarray) -> dict[str, np.ndarray]:
    """Of (n, pixels) uint8."""
    levels = np.zeros([len(flat), 256], bool)
    levels[np.arange(len(flat))[:, np.newaxis], flat] = True
    mean = flat.mean(axis=1)
    return {
        "distinct values": levels.sum(axis=1).astype(np.float64),
        "exact zeros": (flat == 0).sum(axis=1).astype(np.float64),
        "values at the maximum": (flat == 255).sum(axis=1).astype(np.float64),
        "minimum": flat.min(axis=1).astype(np.float64),
        "maximum": flat.max(axis=1).astype(np.float64),
        "mean": mean,
        "variance": flat.astype(np.float32).var(axis=1).astype(np.float64),
    }


def _grid_step(steps: np.ndarray) -> float:
    """The step of the grid on which the values lie whose sorted differences these are; 0 where they lie on none."""
    apart = steps[steps > NOISE * steps.sum()]
    if not len(apart):
        return 0.0
    multiples = apart / apart.min()
    on_grid = np.abs(multiples - np.round(multiples)) < 0.1
    return float(apart.min()) if len(apart) > 2 and on_grid.mean() >= 0.9 else 0.0


def _length(row: np.ndarray) -> int:
    """How many values there are before the zeros at the end."""
    there = np.flatnonzero(row)
    return int(there[-1]) + 1 if len(there) else 0


def _decimals(row: np.ndarray) -> int:
    """How many decimal places hold every value, as far as float32 can tell; DECIMALS where more are needed."""
    for places in range(DECIMALS):
        if np.all(np.abs(row - np.round(row, places)) <= 1e-7 * np.maximum(np.abs(row), 1e-3)):
            return places
    return DECIMALS


def _last_digit(row: np.ndarray) -> float:
    """The mean of the fifth decimal place."""
    return float(np.mean(np.floor(np.abs(row) * 1e5) % 10))


def _blockiness(green: np.ndarray) -> np.ndarray:
    """How much larger the steps at the borders of JPEG's blocks of 8 are than the others: a quotient."""
    steps = np.abs(np.diff(green.astype(np.int16), axis=2))  # (n, H, W - 1)
    at_border = np.arange(steps.shape[2]) % 8 == 7
    if not at_border.any():
        return np.ones(len(green))
    return (steps[..., at_border].mean(axis=(1, 2)) + 1.0) / (steps[..., ~at_border].mean(axis=(1, 2)) + 1.0)
