"""The same ten steps on one device: what the tests of several devices, and of several workers, compare with."""

import functools
from pathlib import Path

import numpy as np

from tests.support.divided import CASES, ten_steps


def assert_close(path: Path, reference: dict[str, np.ndarray]) -> None:
    """Compare a file of `tests.support.divided` with the same ten steps on one device: far within the promised 1e-6."""
    with np.load(path) as found:
        assert set(found.files) == reference.keys()
        for name, value in reference.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-11, err_msg=f"{path.stem}: {name}")


@functools.cache
def one_device(case: str) -> dict[str, np.ndarray]:
    """The variables of a case after ten steps on one device."""
    return ten_steps(CASES[case])
