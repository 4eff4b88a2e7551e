"""The `sample` images: small pictures that NumPy draws from a seed, so that a model can learn without a file.

Ten kinds: five shapes on a plain ground and five textures. A hundred kinds: ten shapes, each on ten grounds.
A kind is only a form. Its place, size, phase and colours are random, and since either colour may be the
lighter, every kind has the same mean image: a linear model sees little, a small network learns the forms in
a few epochs.

All of it is arithmetic on integers (lengths in quarters of a pixel): a seed gives the same bits everywhere.
"""

from collections.abc import Callable

import numpy as np

from loops.data.dataset import Dataset, Split

SIZE = 32  # pixels a side
UNIT = 4  # quarters in a pixel

# Where a form covers the picture: x (n, 1, SIZE), y (n, SIZE, 1), r or p (n, 1, 1) -> bool (n, SIZE, SIZE).
Form = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# x and y are counted from the shape's centre (y grows downwards), r is about half its width.
SHAPES: dict[str, Form] = {
    "disc": lambda x, y, r: x * x + y * y < r * r,
    "ring": lambda x, y, r: (x * x + y * y < r * r) & (12 * (x * x + y * y) > 5 * r * r),
    "square": lambda x, y, r: 8 * np.maximum(abs(x), abs(y)) < 7 * r,
    "triangle": lambda x, y, r: (4 * y < 3 * r) & (8 * abs(x) < 4 * y + 5 * r),
    "cross": lambda x, y, r: (np.maximum(abs(x), abs(y)) < r) & (4 * np.minimum(abs(x), abs(y)) < r),
    "diamond": lambda x, y, r: abs(x) + abs(y) < r,
    "frame": lambda x, y, r: (8 * np.maximum(abs(x), abs(y)) < 7 * r) & (2 * np.maximum(abs(x), abs(y)) > r),
    "saltire": lambda x, y, r: (8 * np.maximum(abs(x), abs(y)) < 7 * r) & (3 * abs(abs(x) - abs(y)) < r),
    "crescent": lambda x, y, r: (x * x + y * y < r * r) & ((2 * x - r) ** 2 + 4 * y * y > 3 * r * r),
    "hourglass": lambda x, y, r: (abs(y) < r) & (abs(x) < abs(y)),
}

# x and y are counted from a random point above and left of the picture, p is the period.
TEXTURES: dict[str, Form] = {
    "plain": lambda x, y, p: np.zeros(np.broadcast_shapes(x.shape, y.shape, p.shape), bool),
    "rows": lambda x, y, p: 2 * (y % p) < p,
    "columns": lambda x, y, p: 2 * (x % p) < p,
    "diagonal": lambda x, y, p: 4 * ((x + y) % (3 * p // 2)) < 3 * p,
    "checkers": lambda x, y, p: (2 * (x % p) < p) ^ (2 * (y % p) < p),
    "dots": lambda x, y, p: (2 * (x % p) - p) ** 2 + (2 * (y % p) - p) ** 2 < p * p // 2,
    "antidiagonal": lambda x, y, p: 4 * ((x - y) % (3 * p // 2)) < 3 * p,
    "grid": lambda x, y, p: (4 * (x % p) < p) | (4 * (y % p) < p),
    "bricks": lambda x, y, p: (4 * (y % p) < p) | (4 * ((x + y // p * p) % (2 * p)) < p),
    "zigzag": lambda x, y, p: 2 * ((y + abs(x % (2 * p) - p)) % p) < p,
}

Kinds = dict[str, tuple[str, str]]  # the class name -> its shape ("" for none) and its texture

TEN: Kinds = {
    **{shape: (shape, "plain") for shape in ("disc", "ring", "square", "triangle", "cross")},
    **{texture: ("", texture) for texture in ("rows", "columns", "diagonal", "checkers", "dots")},
}
HUNDRED: Kinds = {f"{shape} on {ground}": (shape, ground) for shape in SHAPES for ground in TEXTURES}
KINDS: dict[int, Kinds] = {10: TEN, 100: HUNDRED}

# Both ends of each range are drawn. Colours stay within 3 .. 253, so that nothing is clipped. More noise and
# weaker colours stop the involution network (system 1): with NOISE 40, STEP 20 .. 65 some seeds hardly learn.
JITTER = 6 * UNIT  # how far the centre lies from the picture's, along x and along y
RADIUS = (7 * UNIT, 12 * UNIT)
PERIOD = (6 * UNIT, 10 * UNIT)
MIDDLE = (104, 152)  # the colour half-way between shape and ground, each channel by itself
STEP = (30, 85)  # from there up to one of the two and down to the other, each channel by itself
NOISE = 16  # either way, each pixel and channel by itself


def images(classes: int = 10, train: int = 4000, test: int = 1000, seed: int = 0) -> Dataset:
    """Draws `train` and `test` pictures of `classes` kinds, as many of each kind as goes, in shuffled order.

    inputs (n, 32, 32, 3) uint8, labels (n,) int32. The two splits come from independent random streams.
    """
    if classes not in KINDS:
        raise ValueError(f"sample images: classes is {classes!r}, but only 10 and 100 kinds can be drawn")
    kinds = KINDS[classes]
    return Dataset(
        name="sample",
        train=_draw(kinds, train, np.random.default_rng([seed, 0])),
        test=_draw(kinds, test, np.random.default_rng([seed, 1])),
        class_names=tuple(kinds),
        source=f"{classes} kinds of pictures, drawn by loops/data/sample.py from seed {seed}",
    )


def _draw(kinds: Kinds, count: int, rng: np.random.Generator) -> Split:
    """Draws `count` pictures: first the forms as levels (n, 32, 32), then the colours."""

    def between(low: int, high: int, *axes: int) -> np.ndarray:
        """Integers low .. high, both included, (n, *axes) int32."""
        return rng.integers(low, high, (count, *axes), np.int32, endpoint=True)

    labels = rng.permutation(np.arange(count, dtype=np.int32) % len(kinds))
    shapes, textures = np.array(list(kinds.values()))[labels].T  # names, (n,) each

    pixel = np.arange(SIZE, dtype=np.int32) * UNIT + UNIT // 2  # the middle of each pixel
    across, down = pixel[None, None, :], pixel[None, :, None]  # (1, 1, SIZE), (1, SIZE, 1)
    middle = SIZE * UNIT // 2
    centre_x = between(middle - JITTER, middle + JITTER, 1, 1)
    centre_y = between(middle - JITTER, middle + JITTER, 1, 1)
    phase_x, phase_y = between(0, 6 * PERIOD[1], 1, 1), between(0, 6 * PERIOD[1], 1, 1)
    radius, period = between(*RADIUS, 1, 1), between(*PERIOD, 1, 1)

    # -1 is the ground, +1 the shape, 0 a texture behind it; a texture without a shape takes its place at +1.
    level = np.full((count, SIZE, SIZE), -1, np.int16)
    for name, form in TEXTURES.items():
        rows = np.flatnonzero(textures == name)
        covered = form(across + phase_x[rows], down + phase_y[rows], period[rows])
        level[rows] += covered * np.where(shapes[rows] == "", 2, 1)[:, None, None].astype(np.int16)
    for name, form in SHAPES.items():
        rows = np.flatnonzero(shapes == name)
        covered = form(across - centre_x[rows], down - centre_y[rows], radius[rows])
        level[rows] = np.where(covered, np.int16(1), level[rows])

    # In each channel the shape is as often the darker as the lighter one: this makes all mean images equal.
    step = np.where(between(0, 1, 1, 1, 3) == 1, 1, -1) * between(*STEP, 1, 1, 3)
    pictures = level[..., None] * step.astype(np.int16)  # (n, 32, 32, 1) x (n, 1, 1, 3) -> (n, 32, 32, 3)
    pictures += between(*MIDDLE, 1, 1, 3).astype(np.int16)
    pictures += rng.integers(-NOISE, NOISE, pictures.shape, np.int16, endpoint=True)
    return Split(inputs=pictures.astype(np.uint8), labels=labels)
