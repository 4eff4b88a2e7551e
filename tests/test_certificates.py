"""Curve certificates: distances by hand, which published run belongs to which recipe, notes, exit codes, pictures."""

import json
import math

import pytest

from loops import recipes
from loops.recipes import published
from loops.recipes.published import published_runs
from loops.run.runs import Run
from loops.studies.certificates import LIMIT, NOTE, certify, distance, table
from tfcore.inspect.figures import figures


def _changed(name: str, *settings: str):
    return recipes.get(name).changed([setting.split("=") for setting in settings])


def _files(recipe) -> list[str]:
    return [run.file for run in published_runs(recipe)]


def _shifted(name: str, shift: float, epochs: int) -> list[dict]:
    """A published history, moved by a constant: its distance is that constant."""
    own = next(run for run in published.RUNS if run.file == name).history()[:epochs]
    return [{**row, "val_accuracy": row["val_accuracy"] + shift} for row in own]


@pytest.fixture
def make_run(tmp_path):
    def make_run(shift: float, *, epochs: int = 20, settings=(), name: str = "run"):
        run = Run.create(tmp_path / name, _changed("convnet_cifar10", *settings))
        if epochs:
            run.write_history(_shifted("convnet_cifar10", shift, epochs))
        return run.folder

    return make_run


def test_distance_is_over_the_common_epochs():
    ours = [{"accuracy": value} for value in (0.1, 0.5, 0.7)]
    theirs = [{"accuracy": value} for value in (0.2, 0.3)]
    found = distance(ours, theirs, "accuracy")
    assert found.rms == pytest.approx(math.sqrt((0.1**2 + 0.2**2) / 2))
    assert found.largest == pytest.approx(0.2)


@pytest.mark.parametrize("run", published.RUNS, ids=lambda run: f"{run.file}-{len(run.settings)}")
def test_every_published_run_belongs_to_its_recipe(run):
    history = run.history()
    assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    assert all(0 <= row[name] <= 1 for row in history for name in ("accuracy", "val_accuracy"))
    recipe = recipes.get(run.recipe).changed([*run.settings, ("epochs", str(len(history)))])
    assert _files(recipe)[0].removesuffix("_rerun") == run.file.removesuffix("_rerun")


def test_every_published_file_is_listed():
    folder = published.Path(published.__file__).parent
    assert {path.stem for path in folder.glob("*.csv")} == {run.file for run in published.RUNS}


def test_settings_that_change_the_curve_belong_to_no_published_run():
    assert _files(_changed("inn_cifar10", "epochs=100"))[0] == "inn_cifar10_100_epochs"
    assert _files(_changed("inn_cifar10", "seed=7", "precision=mixed_bfloat16", "xla=off"))[0] == "inn_cifar10"
    assert _files(_changed("cnn_cifar10", "dropout=0.5")) == ["cnn_cifar10_dropout"]
    for settings in (["learning_rate=0.01"], ["batch_size=128"], ["kernel_size=5"], ["validation=0.1"]):
        assert _files(_changed("inn_cifar10", *settings)) == []
    assert _files(recipes.get("mlp_forda")) == []


def test_a_certificate_says_how_far_and_from_what(make_run):
    own = certify(make_run(0.01, epochs=7))
    assert own.validation.rms == pytest.approx(0.01)
    assert own.validation.largest == pytest.approx(0.01)
    assert own.train.rms == 0
    assert (own.epochs, own.finished, own.ok, own.published) == (7, False, True, "convnet_cifar10")
    rows = _shifted("convnet_cifar10", 0, 20)
    assert own.last == (7, pytest.approx(rows[6]["val_accuracy"] + 0.01), 20, rows[-1]["val_accuracy"])
    assert own.best[3] == max(row["val_accuracy"] for row in rows)
    assert own.between_authors == pytest.approx(0.012, abs=5e-4)  # as their texts say
    assert "7, not finished" in table([own])


def test_a_note_excuses_a_distance_and_is_printed(make_run, call):
    near, far = make_run(LIMIT - 1e-4, name="near"), make_run(LIMIT + 1e-4, name="far")
    assert call("compare_published", near)[0] == 0
    code, out, _ = call("compare_published", near, far)
    assert code == 1
    assert "1 of 2 curves" in out
    (far / NOTE).write_text("another\nseed")
    code, out, _ = call("compare_published", near, far)
    assert code == 0
    assert "`far`: another seed" in out
    assert "`near`:" not in out


def test_json_markdown_and_figure(make_run, call, tmp_path):
    files = {name: tmp_path / f"it.{name}" for name in ("json", "md", "png")}
    code, out, _ = call(
        "compare_published", make_run(0), "--json", files["json"], "--markdown", files["md"], "--figure", files["png"]
    )
    assert code == 0
    (written,) = json.loads(files["json"].read_text())
    assert written["ok"]
    assert written["validation"] == {"rms": 0, "largest": 0}
    assert files["md"].read_text() in out
    assert files["png"].read_bytes().startswith(b"\x89PNG")


def test_what_is_no_published_run_is_refused(make_run, call, tmp_path):
    for folder, words in (
        (make_run(0, settings=["learning_rate=0.01"], name="other"), "nothing was published of its settings"),
        (make_run(0, epochs=0, name="none"), "no epoch has ended"),
        (tmp_path / "nowhere", "no run there"),
    ):
        code, _, complaint = call("compare_published", folder)
        assert code == 2
        assert words in complaint


def test_the_published_curve_is_drawn_behind_ours():
    rows = _shifted("convnet_cifar10", 0.1, 20)
    figure = figures.curves({"ours": rows[:5], "alone": rows}, published={"ours": _shifted("convnet_cifar10", 0, 20)})
    panels = {panel.get_title(): panel for panel in figure.axes}
    drawn = {line.get_label(): line for line in panels["ours"].get_lines()}
    assert list(drawn["published validation"].get_ydata()) == [
        row["val_loss"] for row in _shifted("convnet_cifar10", 0, 20)
    ]
    assert drawn["published validation"].get_zorder() < drawn["validation"].get_zorder()
    assert len(panels["alone"].get_lines()) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "train", "validation", "published train", "published validation",
    ]  # fmt: skip
