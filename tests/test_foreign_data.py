"""Data that do not belong to a run: other classes, another length, another kind. Refused, with both sides named."""

import dataclasses

import numpy as np
import pytest

from loops import data, recipes
from loops.data.dataset import Dataset, Split
from loops.run.runs import Run
from loops.train import train
from parts import drawings

LENGTH = 24


def _write(folder, labels=("1", "2"), length=LENGTH) -> None:
    """A UCR set of 12 and 6 series, one class after the other."""
    rng = np.random.default_rng(len(labels) + length)
    folder.mkdir(parents=True)
    for part, count in (("TRAIN", 12), ("TEST", 6)):
        lines = [
            "\t".join([labels[i % len(labels)], *(f"{value:.4f}" for value in rng.normal(size=length))])
            for i in range(count)
        ]
        (folder / f"Tiny_{part}.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch on series of classes 1 and 2; tests only read it."""
    folder = tmp_path_factory.mktemp("run")
    _write(folder / "data" / "Tiny")
    settings = [("dataset", "Tiny"), ("data", str(folder / "data")), ("epochs", "1"), ("batch_size", "4")]
    run = Run.create(folder / "run", recipes.get("mlp_forda").changed([*settings, ("xla", "off")]))
    train(run, data.of_recipe(run.recipe))
    return run


OTHERS = {
    "other labels": ({"labels": ("5", "9")}, "has classes 5, 9 and inputs (24, 1)"),
    "one class more": ({"labels": ("1", "2", "3")}, "has classes 1, 2, 3 and inputs (24, 1)"),
    "one class less": ({"labels": ("1", "3")}, "has classes 1, 3 and inputs (24, 1)"),
    "longer series": ({"length": 29}, "has classes 1, 2 and inputs (29, 1)"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("script", ["evaluate", "audit", "resume"])
def test_another_set_is_refused(call, run, tmp_path, case, script):
    settings, found = OTHERS[case]
    _write(tmp_path / "other" / "Tiny", **settings)
    before = sorted((path, path.stat().st_mtime_ns) for path in run.folder.rglob("*") if path.name != ".lock")
    arguments = {
        "evaluate": ("evaluate", run.folder),
        "audit": ("audit", "mlp_forda", "--run", run.folder, "--batches", 2, "--batch-size", 2),
        "resume": ("train", "mlp_forda", "--resume", "--epochs", 2, "--out", run.folder),
    }[script]
    code, _, error = call(*arguments, "--data", tmp_path / "other")
    assert code == 2 and error.count("\n") == 1, error
    assert f"{run.folder}: trained on classes 1, 2 and inputs (24, 1), but Tiny" in error and found in error
    assert before == sorted((path, path.stat().st_mtime_ns) for path in run.folder.rglob("*") if path.name != ".lock")


def test_pictures_of_another_set_are_refused(run):
    other = Dataset(
        name="Tiny",
        train=Split(np.zeros([2, 5, 1], np.float32), np.zeros(2, np.int32)),
        test=Split(np.zeros([2, 5, 1], np.float32), np.zeros(2, np.int32)),
        class_names=("a", "b"),
        source="elsewhere",
    )
    own = drawings.Shown("run", run.recipe, run, lambda *_, **__: other)
    with pytest.raises(ValueError, match=r"trained on classes 1, 2 and .* but elsewhere has classes a, b"):
        own.dataset  # noqa: B018
    fresh = drawings.Shown("fresh", dataclasses.replace(run.recipe), None, lambda *_, **__: other)
    assert fresh.dataset is other  # a recipe of no run takes what it is given


def test_prediction_takes_series_of_the_runs_length_alone(call, run, tmp_path):
    path = tmp_path / "new.tsv"
    path.write_text("\t".join(["0.5"] * 29) + "\n")
    code, _, error = call("evaluate", run.folder, "--predict", path)
    assert code == 2 and str(path) in error and "24" in error and "29" in error
