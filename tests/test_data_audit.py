"""The audit of data: planted leaks are found at their strength, clean sets raise none, duplicates are all there."""

import dataclasses
import json

import numpy as np
import pytest

from loops import data, recipes
from loops.data import sample, series, ucr
from loops.data.dataset import Dataset, Split
from loops.data_audit import audit, balance, duplicates, features, leaks, rules, shortcuts
from loops.run.runs import Run
from loops.train import train

LENGTH = 149


def clean(seed: int, train: int = 120, test: int = 80) -> Dataset:
    """Sample series, whose classes differ in their form alone."""
    return series.series(train=train, test=test, length=LENGTH, seed=seed)


def changed(dataset: Dataset, change) -> Dataset:
    """change(inputs, labels) -> inputs, of both splits."""

    def of(split: Split) -> Split:
        return Split(change(split.inputs.copy(), split.labels).astype(split.inputs.dtype), split.labels)

    return dataclasses.replace(dataset, train=of(dataset.train), test=of(dataset.test))


def coarse(inputs: np.ndarray, labels: np.ndarray, share: float = 1.0) -> np.ndarray:
    """One class on a grid of 0.05, or a share of it."""
    places = np.flatnonzero(labels == 0)
    places = places[: round(share * len(places))]
    inputs[places] = np.round(inputs[places] / 0.05) * 0.05
    return inputs


def decimals(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One class written with two decimal places, the other with three."""
    return np.where((labels == 0)[:, np.newaxis, np.newaxis], np.round(inputs, 2), np.round(inputs, 3))


def zeros(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One value of one class is exactly 0."""
    inputs[labels == 1, 17] = 0.0
    return inputs


@pytest.mark.parametrize(
    ("change", "feature", "least"),
    [(coarse, "distinct values", 1.0), (decimals, "decimal places", 0.98), (zeros, "exact zeros", 0.98)],
)
def test_a_planted_leak_is_found_at_its_strength(change, feature, least):
    found = shortcuts.find(changed(clean(0), change))
    assert feature in [leak.feature for leak in found.leaks]
    (leak,) = [leak for leak in found.leaks if leak.feature == feature]
    assert leak.test >= least and leak.held_out >= least and leak.p <= shortcuts.LEVEL
    assert f"{feature}: up to " in found.in_words(leak) and "should say nothing of a class" in found.in_words(leak)


def test_half_of_a_leak_is_half_as_strong():
    # Half of one of two equal classes is given away: the other three quarters are guessed at two thirds.
    half = changed(clean(1, 400, 400), lambda inputs, labels: coarse(inputs, labels, 0.5))
    (best,) = [one for one in shortcuts.find(half).found if one.feature == "distinct values"]
    assert 0.70 < best.test < 0.80 and best.p <= shortcuts.LEVEL


def test_a_pixel_that_gives_the_class_away():
    images = sample.images(classes=10, train=200, test=100)

    def mark(inputs, labels):
        inputs[:, 0, 0] = (labels * 25)[:, np.newaxis]
        return inputs

    found = shortcuts.find(changed(images, mark))
    (corner,) = [one for one in found.found if one.feature == "corner pixel"]
    assert corner.test >= 0.75 and corner in found.strong  # ten classes, eight cells


def test_clean_sets_raise_no_alarm_at_the_stated_rate():
    alarms = [bool(shortcuts.find(clean(seed), seed=seed, permutations=199).leaks) for seed in range(20)]
    assert sum(alarms) == 0  # at most LEVEL of them pass by chance, and then seldom by half of all errors


def test_chance_is_uniform_where_nothing_is():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 101)
    p = rules.p_values(rng.integers(0, 2, (200, 101)), labels, seed=1, permutations=99)
    assert p.min() > 0.0 and p.max() <= 1.0 and 0.45 < p.mean() < 0.65
    right = rules.p_values(labels[np.newaxis], labels, seed=1, permutations=99)
    np.testing.assert_allclose(right, [0.01])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_rule_is_the_best_of_its_kind(classes):
    rng = np.random.default_rng(classes)
    feature, labels = rng.normal(size=97), rng.integers(0, classes, 97)
    rule = rules.fit(feature, labels, classes)
    assert len(rule.edges) < rules.CELLS and np.all(np.diff(rule.edges) > 0)
    # No single threshold, tried by hand, does better.
    for edge in feature:
        sides = [labels[feature <= edge], labels[feature > edge]]
        best = sum(np.bincount(side, minlength=classes).max() for side in sides if len(side)) / len(labels)
        assert rule.accuracy(feature, labels) >= best - 1e-12
    exact = rules.fit(np.array([3.0, 1.0, 2.0, 1.0]), np.array([1, 0, 1, 0]), 2)
    assert exact.accuracy(np.array([1.4, 1.6]), np.array([0, 1])) == 1.0


def test_features_are_those_of_a_loop():
    rng = np.random.default_rng(3)
    values = np.round(rng.normal(size=(7, 31)), 2)
    values[2, 20:] = 0
    found = features.of(values[..., np.newaxis].astype(np.float32))
    for row, own in enumerate(values.astype(np.float32).astype(np.float64)):
        assert found["distinct values"][row] == len(set(own))
        assert found["exact zeros"][row] == sum(value == 0 for value in own)
        assert found["maximum"][row] == max(own) and found["first value"][row] == own[0]
        assert found["decimal places"][row] == 2
    assert found["length without padding"][2] == 20 and found[features.PLACE][6] == 6
    np.testing.assert_allclose(found["grid step"][[0, 1]], 0.01, rtol=1e-3)
    assert features.grid_steps(rng.normal(size=(3, 31))).tolist() == [0, 0, 0]


def test_a_sorted_file_is_told():
    whole = clean(2)
    order = np.argsort(whole.train.labels, kind="stable")
    sorted_set = dataclasses.replace(whole, train=Split(whole.train.inputs[order], whole.train.labels[order]))
    found = audit.of(sorted_set)
    assert any("the train file is sorted by class" in finding for finding in found.balance.findings())
    assert not any("test file" in finding for finding in found.balance.findings())
    (place,) = [one for one in found.shortcuts.found if one.feature == features.PLACE]
    assert place.held_out >= 0.98 and place not in found.shortcuts.leaks
    assert balance.find(whole).findings() == []


def test_drift_and_dead_channels_are_told():
    whole = clean(4)
    inputs = whole.test.inputs + 1.5
    train_inputs = whole.train.inputs.copy()
    train_inputs[:, 5] = 0.25
    moved = dataclasses.replace(
        whole, train=Split(train_inputs, whole.train.labels), test=Split(inputs, whole.test.labels)
    )
    findings = balance.find(moved).findings()
    assert any("train and test differ" in one and "mean" in one for one in findings)
    assert any("1 of an input's values are the same" in one for one in findings)


def test_duplicates_of_images_are_all_found():
    images = sample.images(classes=10, train=83, test=41)
    inputs = images.test.inputs.copy()
    rng = np.random.default_rng(0)
    inputs[3] = images.train.inputs[70]
    inputs[9] = images.train.inputs[11][:, ::-1]
    noisy = images.train.inputs[5].astype(np.int16) + rng.integers(-3, 4, inputs[0].shape)
    inputs[20] = np.clip(noisy, 0, 255)
    labels = images.test.labels.copy()
    labels[3] = (images.train.labels[70] + 1) % 10
    found = duplicates.find(dataclasses.replace(images, test=Split(inputs, labels)), limit=0.999)
    pairs = {pair.first: pair for pair in found.across}
    assert {3, 9, 20} <= pairs.keys()
    assert pairs[3].second == 70 and pairs[3].exact and not pairs[3].same_label and not pairs[3].mirrored
    assert pairs[9].second == 11 and pairs[9].mirrored and not pairs[9].exact
    assert pairs[20].second == 5 and not pairs[20].exact and 0.999 <= pairs[20].likeness < 1
    # The same by looking at each pair.
    one, other = (duplicates._directions(split) for split in (inputs, images.train.inputs))
    mirror = duplicates._directions(images.train.inputs[:, :, ::-1])
    best = np.maximum(one @ other.T, one @ mirror.T).max(axis=1)
    assert set(np.flatnonzero(best >= 0.999)) == pairs.keys()
    assert found.affected().tolist() == sorted(pairs)


def test_duplicates_of_series_are_found_shifted_too(monkeypatch):
    monkeypatch.setattr(duplicates, "ROWS", 7)
    rng = np.random.default_rng(5)
    known, asked = rng.normal(size=(23, 31, 1)), rng.normal(size=(11, 31, 1))
    asked[2] = 3 * known[17] + 4  # another unit
    asked[7] = np.roll(known[5], 4, axis=0)
    known[20] = known[1]
    dataset = Dataset(
        "x",
        Split(known.astype(np.float32), np.arange(23) % 2),
        Split(asked.astype(np.float32), np.arange(11) % 2),
        ("a", "b"),
        "made up",
    )
    found = duplicates.find(dataset)
    assert [(pair.first, pair.second, pair.shift) for pair in sorted(found.across, key=lambda pair: pair.first)] == [
        (2, 17, 0),
        (7, 5, 4),
    ]
    assert [(pair.first, pair.second, pair.exact) for pair in found.train] == [(20, 1, True)] and found.test == []


def test_a_leak_is_taken_out():
    leaky = changed(clean(6, 200, 150), coarse)
    assert shortcuts.find(leaky).leaks
    mended, step = leaks.removed(leaky)
    assert shortcuts.find(mended).leaks == [] and 0.01 < step < 0.5
    assert np.abs(mended.train.inputs - leaky.train.inputs).max() <= step + 1e-6
    again, _ = leaks.removed(leaky)
    np.testing.assert_array_equal(again.test.inputs, mended.test.inputs)
    with pytest.raises(ValueError, match="one common grid, their 256 levels"):
        leaks.removed(sample.images(10, 30, 30))


def test_what_cannot_be_judged_is_refused():
    few = clean(0, train=12, test=8)
    with pytest.raises(ValueError, match=r"fewer than 10: nothing can be judged"):
        shortcuts.find(few)
    one = dataclasses.replace(few, class_names=("a",), train=Split(few.train.inputs, np.zeros(12, np.int32)))
    with pytest.raises(ValueError, match="one class alone, a"):
        shortcuts.find(one)
    with pytest.raises(ValueError, match="must lie above 0"):
        duplicates.find(clean(0), limit=1.5)


def test_the_script_scores_a_run_with_and_without(call, tmp_path):
    leaky = changed(clean(8), coarse)
    inputs = leaky.test.inputs.copy()
    inputs[:9] = leaky.train.inputs[:9]
    ucr.write(dataclasses.replace(leaky, test=Split(inputs, leaky.test.labels)), tmp_path / "data" / "Tiny", "Tiny")
    settings = [("dataset", "Tiny"), ("data", str(tmp_path / "data")), ("epochs", "1"), ("batch_size", "16")]
    run = Run.create(tmp_path / "run", recipes.get("mlp_forda").changed([*settings, ("xla", "off")]))
    train(run, data.of_recipe(run.recipe))
    page, path = tmp_path / "audit.html", tmp_path / "audit.json"
    code, text, error = call(
        "audit_data", "Tiny", "--data", tmp_path / "data", "--run", run.folder, "--html", page, "--json", path
    )
    assert code == 1 and error == "", error
    assert "alone is right on" in text and "LEAK" in text
    (entry,) = json.loads(path.read_text())
    assert len(entry["duplicates"]["across"]) == 9 and entry["duplicates"]["across"][0]["exact"]
    assert entry["scores"].keys() == {"as published", "without duplicates of train", "leak removed"}
    assert "<svg" in page.read_text() and "of different labels" in page.read_text()
    code, _, error = call("audit_data", "Tiny", "--data", tmp_path / "nowhere")
    assert code == 2 and error.count("\n") == 1
    code, _, error = call("audit_data", "Tiny", "Other", "--data", tmp_path / "data", "--run", run.folder)
    assert code == 2 and "--run was trained on one set" in error


def test_a_set_is_written_without_its_leak(call, tmp_path):
    ucr.write(changed(clean(9), coarse), tmp_path / "data" / "Tiny", "Tiny")
    arguments = ("audit_data", "Tiny", "--data", tmp_path / "data", "--without-leak", tmp_path / "mended")
    code, text, error = call(*arguments)
    assert code == 0 and "a common grid of" in text, error
    mended = data.load("Tiny", str(tmp_path / "mended"))
    assert shortcuts.find(mended).leaks == []
    assert len(mended.train) == 120 and mended.class_names == ("faulty", "healthy")
    code, _, error = call(*arguments)
    assert code == 2 and "exists: name a new one by --without-leak" in error
