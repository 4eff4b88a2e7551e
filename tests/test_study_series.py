"""The study of series: seeds beside a baseline, resumed where it stopped."""

import json

import numpy as np
import pytest
import study_series

from loops import data
from loops.data import series
from loops.data.dataset import Split
from loops.studies import baselines
from loops.studies.baselines import autoregressive_ridge, nearest_neighbour
from parts import command_line


@pytest.fixture
def small(monkeypatch):
    """60 and 20 short series in the place of every set."""
    dataset = series.series(train=60, test=20, length=140)
    monkeypatch.setattr(data, "load", lambda *arguments, **settings: dataset)
    return dataset


def _study(*arguments) -> int:
    return study_series.main(study_series.parser().parse_args([str(argument) for argument in arguments]))


SMALL = (
    "FordA",
    "--data",
    "sample",
    "--seeds",
    2,
    "--epochs",
    2,
    "--set",
    "batch_size=16",
    "--set",
    "xla=off",
    "--set",
    "schedule=constant",
    "--set",
    "warmup_steps=0",
)


def test_seeds_and_baseline_end_in_one_table(tmp_path, small, capsys):
    path = tmp_path / "result.json"
    arguments = (*SMALL, "--recipes", "mlp_forda", "transformer_forda_mended", "--out", tmp_path / "study")
    assert _study(*arguments, "--json", path) == 0
    mlp, mended = json.loads(path.read_text())
    assert (mlp["recipe"], mended["recipe"], mended["parameters"]) == ("mlp_forda", "transformer_forda_mended", 37_954)
    for entry in (mlp, mended):
        folder = tmp_path / "study" / "FordA" / entry["recipe"]
        found = [json.loads((folder / f"seed-{i}" / "summary.json").read_text())["test"]["accuracy"] for i in (0, 1)]
        assert entry["accuracies"] == found and entry["mean"] == np.mean(found)
        assert entry["spread"] == pytest.approx(np.std(found, ddof=1))
    text = capsys.readouterr().out
    assert f"1 nearest neighbour         {nearest_neighbour(small.train, small.test):.4f}" in text
    # All is trained: the same command only prints the table.
    assert _study(*arguments) == 0
    assert "starting" not in capsys.readouterr().out


def test_other_settings_and_wrong_names_are_refused(tmp_path, small):
    arguments = (*SMALL, "--recipes", "mlp_forda", "--out", tmp_path / "study")
    assert _study(*arguments) == 0
    with pytest.raises(ValueError, match="made by other settings: its epochs is 2, now it would be 3"):
        _study(*arguments, "--epochs", 3)
    with pytest.raises(ValueError, match="did you mean 'mlp_forda'"):
        _study("FordA", "--recipes", "mlp_ford")
    with pytest.raises(ValueError, match="--seeds must be at least 1, got 0"):
        _study("FordA", "--seeds", 0)
    with pytest.raises(ValueError, match="a set of images"):
        _study("cifar10")
    for field, value in (("exchange_splits", "true"), ("dataset", "ECG200"), ("data", "sample"), ("seed", 1)):
        with pytest.raises(ValueError, match=f"--set {field}: "):
            _study("FordA", "--set", f"{field}={value}")
    with pytest.raises(ValueError, match="mlp_forda: validation=0 validates on the test split"):
        _study("FordA", "--recipes", "mlp_forda", "--set", "validation=0")
    with pytest.raises(ValueError, match="transformer_series_best leaves its test split unseen"):
        _study("FordA", "--recipes", "transformer_series_best")


def test_interrupted_it_says_how_to_go_on(tmp_path, small, monkeypatch, capsys):
    from loops.train import Interrupted

    def stopped(*arguments, **settings):
        raise Interrupted

    monkeypatch.setattr("loops.studies.study.train", stopped)
    assert _study(*SMALL, "--recipes", "mlp_forda", "--out", tmp_path / "study") == command_line.INTERRUPTED
    assert "everything is saved. Go on with:" in capsys.readouterr().err


def test_the_nearest_neighbour_is_found_by_distance():
    rng = np.random.default_rng(0)
    train = Split(rng.standard_normal((31, 7, 1)).astype(np.float32), rng.integers(0, 3, 31).astype(np.int32))
    test = Split(rng.standard_normal((300, 7, 1)).astype(np.float32), rng.integers(0, 3, 300).astype(np.int32))
    right = 0
    for series_, label in zip(test.inputs, test.labels, strict=True):
        distances = [np.sum((known - series_) ** 2) for known in train.inputs.astype(np.float64)]
        right += train.labels[int(np.argmin(distances))] == label
    assert nearest_neighbour(train, test) == right / 300


def test_the_ridge_tells_processes_apart_by_how_they_predict_themselves():
    def process(coefficients, count, seed):
        rng = np.random.default_rng(seed)
        series = np.zeros([count, 120])
        for t in range(120):
            past = sum(c * series[:, t - lag - 1] for lag, c in enumerate(coefficients) if t > lag)
            series[:, t] = past + rng.normal(size=count)
        return (series - series.mean(axis=1, keepdims=True)) / series.std(axis=1, keepdims=True)

    def split(seed):
        inputs = np.concatenate([process((0.8, 0.1), 31, seed), process((-0.8, 0.1), 29, seed + 1)])
        return Split(inputs[..., np.newaxis].astype(np.float32), np.repeat([0, 1], [31, 29]))

    train, test = split(0), split(10)
    assert autoregressive_ridge(train, test, order=3) == 1.0
    # The coefficients of a process without noise are found as they are.
    series = [1.0, 0.3]
    for _ in range(60):
        series.append(1.1 * series[-1] - 0.9 * series[-2])
    found = baselines._autoregression(np.array([series]), order=2)
    np.testing.assert_allclose(found[0, :2], [1.1, -0.9], rtol=1e-9)
