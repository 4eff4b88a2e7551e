"""The `sample` series: engine-like noise that NumPy makes from a seed, so that a model can learn without a file.

Each is a sum of engine orders (harmonics of a rotation) with noise on top. In a faulty one something strikes once a
rotation and rings out within a few values. Rotation, phases, strengths and the sign of the strokes are random, so
both classes have a mean series of nothing: a model that is linear in the values, or has to learn by heart where a
stroke may come, stays near chance, and one that looks at short windows wherever they lie learns it in a few epochs.

All of it is arithmetic on integers up to the normalization's root and quotient: a seed gives the same bits everywhere.
"""

import numpy as np

from loops.data.dataset import Dataset, Split

CLASS_NAMES = ("healthy", "faulty")
TURN = 4096  # phase of one full oscillation
ONE = 1000  # what stands for 1 in a sine

# Both ends of each range are drawn. Weaker strokes are learned as well, but take a small network more epochs.
PERIOD = (40, 70)  # values a rotation
ORDERS = {1: 600, 2: 1000, 3: 600, 4: 400, 6: 300}  # multiple of the rotation -> strength at most, a third at least
NOISE = 300  # either way, each value by itself, then smoothed
SMOOTHING = (1, 2, 3, 2, 1)  # weights of the noise's neighbours, in thirds: noise with more of the low frequencies
STROKE = (1600, 2400)  # strength of a stroke
DECAY = 20  # values in which it rings out
RING = (4, 6)  # values an oscillation while it rings


def series(train: int = 1000, test: int = 500, length: int = 500, seed: int = 0) -> Dataset:
    """Return `train` and `test` series of two classes, half of each, in shuffled order.

    inputs (n, length, 1) float32, each series with mean 0 and standard deviation 1, labels (n,) int32: 0 healthy,
    1 faulty. The two splits come from independent random streams.

    Raises:
        ValueError: for a length below two rotations, in which a stroke does not repeat.
    """
    if length < 2 * PERIOD[1]:
        raise ValueError(f"sample series: length is {length}, but two rotations need at least {2 * PERIOD[1]} values")
    return Dataset(
        name="sample",
        train=_normalized(*_draw(train, length, np.random.default_rng([seed, 0]))),
        test=_normalized(*_draw(test, length, np.random.default_rng([seed, 1]))),
        class_names=CLASS_NAMES,
        source=f"engine-like series of {length} values, made by loops/data/series.py from seed {seed}",
    )


def _draw(count: int, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Series (n, length) int64 and labels (n,) int32."""

    def between(low: int, high: int, width: int = 1) -> np.ndarray:
        """Integers low .. high, both included, (n, width) int64."""
        return rng.integers(low, high, (count, width), np.int64, endpoint=True)

    labels = rng.permutation(np.arange(count, dtype=np.int32) % 2)
    time = np.arange(length, dtype=np.int64)  # (length,)
    period = between(*PERIOD)  # (n, 1)

    values = np.zeros((count, length), np.int64)
    for order, most in ORDERS.items():
        phase = order * time * TURN // period + between(0, TURN - 1)  # (n, length)
        values += between(most // 3, most) * _sine(phase) // ONE

    white = between(-NOISE, NOISE, length + len(SMOOTHING) - 1)
    values += sum(weight * white[:, i : i + length] for i, weight in enumerate(SMOOTHING)) // 3

    since = (time + between(0, period.max())) % period  # the stroke's age, (n, length)
    ringing = _sine(since * TURN // between(*RING) + between(0, 1) * TURN // 2)
    decaying = np.maximum(DECAY - since, 0) ** 2  # of DECAY ** 2
    values += labels[:, None] * (between(*STROKE) * ringing * decaying // (ONE * DECAY**2))
    return values, labels


def _sine(phase: np.ndarray) -> np.ndarray:
    """ONE · sin(2π phase / TURN) to 0.3 % of ONE, by Bhaskara's rational formula: integers in, integers out."""
    half = TURN // 2
    along = phase % half
    product = along * (half - along)
    arch = 16 * ONE * product // (5 * half * half - 4 * product)
    return np.where(phase % TURN < half, arch, -arch)


def _normalized(values: np.ndarray, labels: np.ndarray) -> Split:
    """Each series with mean 0 and standard deviation 1, as those of the UCR archive are."""
    # (v - mean) / deviation with both multiplied by the length: exact integers up to one root and one quotient, which
    # IEEE rounds the same way everywhere. A mean of floats would depend on the order of the sum.
    length = values.shape[1]
    total, squares = values.sum(axis=1, keepdims=True), (values * values).sum(axis=1, keepdims=True)  # (n, 1)
    inputs = (length * values - total) / np.sqrt(length * squares - total * total)  # (n, length) float64
    return Split(inputs.astype(np.float32)[..., None], labels)
