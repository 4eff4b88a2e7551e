"""The sample series: the same bits everywhere, balanced, and told apart by their form alone, not by a linear model."""

import hashlib

import numpy as np
import pytest

from loops.data import series
from loops.data.dataset import Split


@pytest.fixture(scope="module")
def data():
    return series.series()


def digest(*splits: Split) -> str:
    """Of all values and labels, little-endian, so that it does not depend on the machine."""
    arrays = [array for split in splits for array in (split.inputs.astype("<f4"), split.labels.astype("<i4"))]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_a_seed_gives_these_very_bits():
    values, labels = series._draw(20, 500, np.random.default_rng(7))
    assert values.dtype == np.int64
    found = hashlib.sha256(values.astype("<i8").tobytes() + labels.astype("<i4").tobytes()).hexdigest()
    assert found == "76886005b85db466ccd28b481e66cdc4b90e8c4297186eb7e9ec307414d9fac4"
    data = series.series(train=20, test=10, seed=7)
    assert digest(data.train, data.test) == "78bac618da6074767a8abc04a18b178a3c4f6c57e79eae3489e93648e23df2fa"


def test_twice_the_same_and_another_seed_another():
    once, again, other = (series.series(train=50, test=20, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(once.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(once.test.labels, again.test.labels)
    assert digest(once.train) != digest(other.train)
    assert digest(once.test) != digest(other.test)


def test_default_sizes_and_types(data):
    for split, count in ((data.train, 1000), (data.test, 500)):
        assert split.inputs.shape == (count, 500, 1)
        assert split.inputs.dtype == np.float32
        assert split.labels.shape == (count,)
        assert split.labels.dtype == np.int32
    assert data.class_names == ("healthy", "faulty")
    assert data.name == "sample" and "seed 0" in data.source and "500 values" in data.source


def test_other_lengths():
    assert series.series(train=10, test=4, length=140).test.inputs.shape == (4, 140, 1)
    with pytest.raises(ValueError, match="length is 139, but two rotations need at least 140 values"):
        series.series(length=139)


def test_normalized_one_by_one(data):
    values = data.train.inputs[..., 0].astype(np.float64)
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=1), 1, atol=1e-6)


def test_sine():
    phase = np.arange(-2 * series.TURN, 2 * series.TURN)
    np.testing.assert_allclose(series._sine(phase), 1000 * np.sin(2 * np.pi * phase / series.TURN), atol=3)


def test_balanced_and_shuffled():
    data = series.series(train=705, test=300)
    for split in (data.train, data.test):
        healthy, faulty = np.bincount(split.labels, minlength=2)
        assert 0 <= healthy - faulty <= 1
        assert 0.2 < (np.diff(split.labels) < 0).mean() < 0.3  # sorted: 0, in turn: a half


def test_the_test_split_has_its_own_stream():
    data = series.series(train=500, test=500)
    train, test = ({one.tobytes() for one in split.inputs} for split in (data.train, data.test))
    assert len(train) == len(test) == 500
    assert not train & test
    assert (data.train.labels == data.test.labels).mean() < 0.6


def test_both_classes_have_the_same_mean_series(data):
    """Nothing, within 5 standard errors, at each point in time."""
    for kind in (0, 1):
        values = data.train.inputs[data.train.labels == kind, :, 0]
        assert abs(values.mean(axis=0)).max() < 5 / np.sqrt(len(values))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ridge", [1.0, 100.0, 10_000.0])
def test_a_linear_model_fails(seed, ridge):
    """Least squares on the values with a ridge: within 4 standard errors (0.022) of chance on the test split."""
    data = series.series(seed=seed)
    x, targets = data.train.inputs[..., 0], 2.0 * data.train.labels - 1
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ targets)
    accuracy = ((data.test.inputs[..., 0] @ weights > 0) == data.test.labels).mean()
    assert abs(accuracy - 0.5) < 0.09


def suddenness(split: Split) -> np.ndarray:
    """Energy of the second difference in windows of 10 values, the loudest window against the middle one, (n,)."""
    windows = np.diff(split.inputs[:, :, 0], n=2)[:, :490].reshape(len(split), 49, 10)
    energy = (windows**2).mean(axis=2)
    return energy.max(axis=1) / np.median(energy, axis=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_fault_is_there(seed):
    """One threshold, taken from the train split, on one number from short windows tells the classes apart."""
    data = series.series(seed=seed)
    found, labels = suddenness(data.train), data.train.labels
    threshold = max(np.sort(found), key=lambda least: ((found >= least) == labels).mean())
    assert ((suddenness(data.test) >= threshold) == data.test.labels).mean() > 0.95
