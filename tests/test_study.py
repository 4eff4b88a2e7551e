"""loops/studies/study.py: many runs in one folder, one after the other; what is adopted, resumed, refused."""

import dataclasses
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest

from loops import learner as learner_module
from loops import recipes, steps
from loops.devices.throughput import COLUMNS
from loops.run import checkpoint
from loops.run.runs import Run
from loops.studies import study
from loops.train import Interrupted
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()
TINY = [("data", "sample"), ("epochs", "2"), ("batch_size", "32"), ("filters", "3,5,7"), ("units", "11")]


def _recipe(*settings):
    return recipes.get("cnn_cifar10").changed([*TINY, ("xla", "off"), *settings])


ROWS = {"plain": _recipe(), "dropout": _recipe(("dropout", "0.5"))}


@pytest.fixture(autouse=True)
def loads(monkeypatch):
    """Every data set is the tiny one; the calls are recorded."""
    calls = []
    monkeypatch.setattr("loops.data.load", lambda *arguments, **_: calls.append(arguments) or DATASET)
    return calls


@pytest.fixture
def trained(monkeypatch):
    """The folders that are trained, in this order."""
    calls = []
    train = study.train

    def recording(run, *arguments, **options):
        calls.append(f"{run.folder.parent.name}/{run.folder.name}")
        return train(run, *arguments, **options)

    monkeypatch.setattr(study, "train", recording)
    return calls


def _outcome(folder):
    """What a run has come to: history without its times, and all weights and slots of the last checkpoint."""
    rows = Run.open(folder).read_history()
    _, arrays, _, _ = checkpoint.newest_intact(folder / "checkpoints")
    return [{k: v for k, v in row.items() if k not in COLUMNS} for row in rows], arrays


def _assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        np.testing.assert_array_equal(value, other[1][name], name)


def test_rows_by_seeds_one_after_the_other(tmp_path, trained, loads):
    runs = study.plan(tmp_path, ROWS, range(2))
    assert not list(tmp_path.iterdir())  # a plan writes nothing
    lines, ended = [], []
    study.run_all(tmp_path, runs, report=lines.append, ended=ended.append)
    order = ["plain/seed-0", "dropout/seed-0", "plain/seed-1", "dropout/seed-1"]
    assert trained == order and [f"{r.row}/seed-{r.recipe.seed}" for r in ended] == order
    assert len(loads) == 1  # the data is read once for all of them
    assert f"3/4: starting plain, seed 1 ({tmp_path / 'plain' / 'seed-1'})" in lines
    for result in study.results(runs):
        run = Run.open(tmp_path / result.row / f"seed-{result.recipe.seed}")
        assert result.finished and result.summary == run.read_json("summary.json")
        assert result.history == run.read_history() and len(result.history) == 2
        assert run.recipe == result.recipe and run.recipe.model.dropout == (0.5 if result.row == "dropout" else 0)
    study.run_all(tmp_path, study.plan(tmp_path, ROWS, range(2)), ended=ended.append)
    assert trained == order and len(ended) == 4  # nothing is done twice


def test_interrupted_and_resumed_ends_as_if_it_never_was(tmp_path, monkeypatch):
    runs = study.plan(tmp_path / "whole", ROWS, [0])
    study.run_all(tmp_path / "whole", runs)

    make_train_step = learner_module.make_train_step
    count = 0

    def make_interrupting_step(*arguments, **options):
        step = make_train_step(*arguments, **options)

        def step_and_interrupt(*batch):
            nonlocal count
            sound = step(*batch)
            count += 1
            if count in (2, 5, 8):  # within an epoch, at its second epoch, and in the second row
                os.kill(os.getpid(), signal.SIGINT)
            return sound

        return step_and_interrupt

    monkeypatch.setattr(learner_module, "make_train_step", make_interrupting_step)
    runs = study.plan(tmp_path / "parts", ROWS, [0])
    lines = []
    for epochs in (0, 1, 2):
        with pytest.raises(Interrupted):
            study.run_all(tmp_path / "parts", runs, report=lines.append)
        found = study.results(runs)
        assert sum(len(result.history) for result in found) == epochs
        assert [result.finished for result in found] == [[], [False], [True]][epochs]
    study.run_all(tmp_path / "parts", study.plan(tmp_path / "parts", ROWS, [0]), report=lines.append)
    assert count == 12  # no step was done twice
    assert "1/2: going on with plain" in "".join(lines) and "1/1: going on with dropout" in "".join(lines)
    for row in ROWS:
        _assert_same(_outcome(tmp_path / "whole" / row / "seed-0"), _outcome(tmp_path / "parts" / row / "seed-0"))


def test_a_run_killed_in_its_first_epoch_starts_anew(tmp_path, trained):
    runs = study.plan(tmp_path, {"plain": ROWS["plain"]}, [0])
    place = tmp_path / "plain" / "seed-0"
    Run.create(place, ROWS["plain"])  # killed before its first checkpoint
    study.run_all(tmp_path, runs)
    assert trained == ["plain/seed-0"] and study.results(runs)[0].finished

    shutil.rmtree(place / "checkpoints")
    (place / "summary.json").unlink()
    (place / "figures").mkdir()
    with pytest.raises(ValueError, match="holds figures, but no checkpoint to go on with: move the folder away"):
        study.run_all(tmp_path, runs)
    assert (place / "history.csv").exists() and len(trained) == 1


def test_other_settings_are_refused(tmp_path):
    runs = study.plan(tmp_path, ROWS, [0])
    Run.create(runs[0][2], runs[0][1])
    changed = {row: recipe.changed([("units", "13")]) for row, recipe in ROWS.items()}
    with pytest.raises(
        ValueError, match="plain/seed-0 was made by other settings: its units is 11, now it would be 13"
    ):
        study.plan(tmp_path, changed, [0])
    assert len(study.plan(tmp_path, changed, [1])) == 2  # other folders


def test_the_official_files_may_lie_anywhere_but_the_sample_is_other_data(tmp_path):
    recipe = ROWS["plain"].changed([("data", "/some/where")])
    Run.create(tmp_path / "plain" / "seed-0", recipe)
    for data in ("/else/where", "auto"):
        assert study.plan(tmp_path, {"plain": recipe.changed([("data", data)])}, [0])
    with pytest.raises(ValueError, match="its data is /some/where, now it would be sample"):
        study.plan(tmp_path, {"plain": ROWS["plain"]}, [0])


def test_what_a_later_row_refuses_is_refused_before_anything_is_written(tmp_path, trained):
    rows = {**ROWS, "deep": _recipe(("filters", "2,2,2,2,2,2"))}
    with pytest.raises(ValueError, match="positive multiple of 64"):
        study.run_all(tmp_path / "out", study.plan(tmp_path / "out", rows, [0]))
    assert trained == [] and not (tmp_path / "out").exists()


def _hold(folder, ready, leave):
    with study.sole_owner(folder):
        ready.set()
        leave.wait(60)


def test_one_process_at_a_time(tmp_path, trained):
    runs = study.plan(tmp_path, {"plain": ROWS["plain"]}, [0])
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, leave))
    other.start()
    assert ready.wait(60)
    with pytest.raises(ValueError, match="another process is at work on this study"):
        study.run_all(tmp_path, runs)
    assert trained == []
    leave.set()
    other.join()
    study.run_all(tmp_path, runs)  # the lock's file stays, the lock does not
    assert trained == ["plain/seed-0"]


def test_auto_is_measured_once_for_all_runs(tmp_path, monkeypatch):
    measured = []
    measure = steps.measure_modes
    monkeypatch.setattr(learner_module, "measure_modes", lambda *a: measured.append(1) or measure(*a, repeats=1))
    rows = {row: dataclasses.replace(recipe, xla="auto", epochs=1) for row, recipe in ROWS.items()}
    runs = study.plan(tmp_path, rows, [0])
    study.run_all(tmp_path, runs)
    assert len(measured) == 1
    first, second = (Run.open(place).read_json("environment.json") for _, _, place in runs)
    assert first["xla"] == second["xla"] and "xla_measured_ms" in first
    assert second["xla_measured_by"] == str(runs[0][2])


def test_mean_and_spread():
    assert study.mean_and_spread([0.5]) == (0.5, None)
    assert study.mean_and_spread([1.0, 2.0, 6.0]) == (3.0, pytest.approx(7**0.5))
