"""study_cnn.py: the rows, the tables, what is marked. Adopted and resumed runs, refusals, pictures: test_study_*.py."""

import csv
import json
import shutil
import statistics
import sys
from pathlib import Path

import pytest
import study_cnn
import tensorflow as tf

import loops.studies.cnn_study
import tfcore.inspect
from loops.run.runs import Run
from loops.studies import study
from loops.studies.cnn_study import rows
from parts import command_line
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()
SCRIPT = Path(__file__).parents[1] / "scripts" / "study_cnn.py"
SMALL = ["--set", "xla=off", "--set", "filters=3,5,7", "--set", "units=11"]
TINY = ["--data", "sample", "--epochs", "2", "--batch-size", "32", *SMALL]
FIVE = ["base", "dropout", "l2", "early_stopping", "batch_norm"]
ALL = [*FIVE, "batch_norm_dropout", "sgd", "momentum", "rmsprop", "l1", "sigmoid", "tanh", "leaky_relu", "prelu"]


@pytest.fixture(scope="module", autouse=True)
def small_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loops.data.sample.images", lambda classes: DATASET)
        yield


def _call(*arguments) -> int:
    words = [str(argument) for argument in arguments]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["study_cnn.py", *words])
        command_line.run(study_cnn.main, study_cnn.parser().parse_args(words))
    return stop.value.code


def _error(capsys, *arguments) -> str:
    """The one line in which the script ends."""
    assert _call(*arguments) == command_line.WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of all rows, two seeds of the first two and two rows of the fair protocol; tests only read it."""
    out = tmp_path_factory.mktemp("study") / "out"
    with pytest.MonkeyPatch.context() as patch:  # the last call draws all
        patch.setattr(study_cnn, "pictures", lambda results, arguments: ())
        assert _call(*TINY, "--out", out) == 0
        assert _call(*TINY, "--out", out, "--only", "dropout", "base", "--seeds", 2) == 0
    fair = [*TINY, "--out", out, "--only", "base", "early_stopping", "--protocol", "fair"]
    assert _call(*fair, "--json", out.parent / "lines.json") == 0
    return out


def _lines(out) -> list[dict]:
    with open(out / "study.csv", newline="") as file:
        return list(csv.DictReader(file))


def _section(out, heading: str) -> str:
    return (out / "study.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]


def _markdown_row(section: str, name: str) -> list[str]:
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def _changes(base: dict, recipe: dict) -> dict:
    """The fields of a recipe's JSON that another one has otherwise, or, as those of another optimizer, not at all."""
    return {name: value for name, value in recipe.items() if name not in base or value != base[name]}


@pytest.fixture
def no_pictures(monkeypatch):
    """They take most of a report's time."""
    monkeypatch.setattr(study_cnn, "pictures", lambda results, arguments: ())


# What is trained.


def test_each_row_changes_the_base_as_it_says(whole):
    base = Run.open(whole / "published" / "base" / "seed-0").recipe.to_json()
    assert (base["optimizer"], base["learning_rate"], base["activation"], base["monitor"]) == (
        "adam",
        1e-3,
        "relu",
        "val_accuracy",
    )
    expected = {
        "base": {},
        "dropout": {"dropout": 0.5},
        "l2": {"l2": 0.01},
        "early_stopping": {"stop_patience": 3, "monitor": "val_loss"},
        "batch_norm": {"batch_norm": "after"},
        "batch_norm_dropout": {"batch_norm": "after", "dropout": 0.5},
        "sgd": {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
        "momentum": {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": False},
        "rmsprop": {"optimizer": "rmsprop", "rho": 0.9, "momentum": 0.0, "centered": False},
        "l1": {"l1": 0.001},
        "sigmoid": {"activation": "sigmoid"},
        "tanh": {"activation": "tanh"},
        "leaky_relu": {"activation": "leaky_relu"},
        "prelu": {"activation": "prelu", "prelu_axis": "channel"},
    }
    assert list(rows.ROWS) == ALL == list(expected)
    for row, changes in expected.items():
        recipe = Run.open(whole / "published" / row / "seed-0").recipe.to_json()
        assert _changes(base, recipe) == changes, row
    assert (base["slope"], base["penalized"], base["validation"]) == (0.01, "conv", 0)
    fair = Run.open(whole / "fair" / "early_stopping" / "seed-0").recipe.to_json()
    assert _changes(base, fair) == {**expected["early_stopping"], "validation": 0.1}
    seed = Run.open(whole / "published" / "dropout" / "seed-1").recipe.to_json()
    assert _changes(base, seed).keys() == {"seed", "dropout"}


def test_published_figures():
    assert {row: rows.ROWS[row].published for row in ALL if rows.ROWS[row].published} == {
        "base": (0.911, 0.726, 0.274, 1.007),
        "dropout": (0.830, 0.785, 0.481, 0.639),
        "l2": (0.732, 0.699, 0.965, 1.052),
        "early_stopping": (0.738, 0.688, 0.765, 0.902),
        "batch_norm": (0.935, 0.778, 0.178, 0.838),
    }


# The tables.


def test_lines_equal_the_summaries(whole):
    lines = _lines(whole)
    places = [(line["protocol"], line["row"], line["seed"]) for line in lines]
    assert places == [
        *[("published", row, seed) for row in ALL for seed in ("0", "1") if seed == "0" or row in ("base", "dropout")],
        ("fair", "base", "0"),
        ("fair", "early_stopping", "0"),
    ]
    for line, (protocol, row, seed) in zip(lines, places, strict=True):
        summary = json.loads((whole / protocol / row / f"seed-{seed}" / "summary.json").read_text())
        shown = summary["last"] if protocol == "published" else summary["best"]
        test = summary.get("test") or {"accuracy": shown["val_accuracy"], "loss": shown["val_loss"]}
        assert (protocol == "fair") == ("test" in summary)
        expected = {
            "train_accuracy": shown["accuracy"],
            "train_loss": shown["loss"],
            "test_accuracy": test["accuracy"],
            "test_loss": test["loss"],
            "gap": shown["accuracy"] - test["accuracy"],
            "best_epoch": summary["best"]["epoch"],
            "best_validation_accuracy": summary["best"]["val_accuracy"],
            "seconds": summary["seconds"],
            "epochs_done": 2,
            "epochs": 2,
        }
        assert {name: float(line[name]) for name in expected} == pytest.approx(expected, abs=1e-9)
        assert line["finished"] == "True" and line["device"]
        assert line["published_test_accuracy"] == ""  # figures of CIFAR-10 beside the sample would mean nothing
    written = json.loads((whole.parent / "lines.json").read_text())
    assert [{k: "" if v is None else str(v) for k, v in line.items()} for line in written] == lines


def _line(out, row, protocol="published", seed="0") -> dict:
    (line,) = [line for line in _lines(out) if (line["protocol"], line["row"], line["seed"]) == (protocol, row, seed)]
    return line


def test_the_table_of_the_rows(whole):
    section = _section(whole, "Published protocol")
    lines = [line for line in _lines(whole) if (line["protocol"], line["row"]) == ("published", "dropout")]
    cells = _markdown_row(section, "dropout (2 seeds)")
    for place, name in ((2, "train_accuracy"), (3, "test_accuracy"), (6, "gap"), (7, "train_loss"), (8, "test_loss")):
        values = [float(line[name]) for line in lines]
        assert cells[place] == f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
    assert _markdown_row(section, "tanh")[1:4:2] == ["2", f"{float(_line(whole, 'tanh')['test_accuracy']):.4f}"]
    fair = _section(whole, "Fair protocol")
    assert "validation accuracy" in fair and _markdown_row(fair, "base")
    assert "dropout, l2, batch_norm" in fair.partition("No epoch yet: ")[2]
    head = (whole / "study.md").read_text().partition("\n## ")[0]
    assert "epochs 2 (published: 50), batch_size 32 (published: 1024)" in head and "xla" not in head


def _cut(place: Path) -> None:
    """Let a run look as it did after its first epoch."""
    (place / "summary.json").unlink()
    text = (place / "history.csv").read_text().splitlines(keepends=True)
    (place / "history.csv").write_text("".join(text[:2]))


def test_what_is_not_finished_is_marked_and_in_no_mean(whole, tmp_path, capsys, no_pictures):
    out = shutil.copytree(whole, tmp_path / "out")
    for place in ("published/base/seed-1", "published/tanh/seed-0", "fair/base/seed-0"):
        _cut(out / place)
    assert _call("--report", "--out", out) == 0
    text = capsys.readouterr().out
    section = _section(out, "Published protocol")
    assert "in no mean" in section
    for row, seed in (("base", "1"), ("tanh", "0")):
        line = _line(out, row, seed=seed)
        assert (line["finished"], line["epochs_done"]) == ("False", "1")
        cells = _markdown_row(section, f"{row}, seed {seed}")
        assert cells[1] == "1 of 2 epochs, not finished" and cells[5] == "–"
        history = Run.open(out / "published" / row / f"seed-{seed}").read_history()
        assert cells[3] == f"{history[0]['val_accuracy']:.4f}"
        assert f"{row}, seed {seed}" in text and "1 of 2 epochs, not finished" in text
    kept = _line(whole, "base")
    assert _markdown_row(section, "base")[3] == f"{float(kept['test_accuracy']):.4f}"  # seed 0 alone, no ±
    # The test split of the fair protocol has not been touched.
    line = _line(out, "base", "fair")
    assert (line["test_accuracy"], line["test_loss"], line["gap"]) == ("", "", "")
    assert _markdown_row(_section(out, "Fair protocol"), "base, seed 0")[3] == "–"


# The pictures.


def test_all_pictures_are_written(whole):
    names = [f"curves-{row}" for row in ALL]
    names += ["accuracy-bars", "all-accuracy", "all-loss", "gradient-norms", "weight-norms", "near-zero-weights"]
    fair = ["curves-base", "curves-early_stopping", "accuracy-bars", "all-accuracy", "all-loss", "gradient-norms"]
    assert {str(path.relative_to(whole / "figures")) for path in (whole / "figures").rglob("*")} == {
        "activation-functions.png",
        "samples.png",
        "published",
        "fair",
        *(f"published/{name}.png" for name in (*names, "batch-norm-statistics")),
        *(f"fair/{name}.png" for name in fair),
    }
    for path in (whole / "figures").rglob("*.png"):
        pixels = tf.io.decode_png(path.read_bytes(), channels=3).numpy()
        assert pixels.shape[0] >= 300 and pixels.shape[1] >= 700 and pixels.std() > 10, path


def test_without_matplotlib_tables_alone(whole, tmp_path, monkeypatch, capsys):
    for name in ("matplotlib", "matplotlib.axes"):
        monkeypatch.setitem(sys.modules, name, None)
    for module, parent in (
        ("loops.studies.cnn_study.drawings", loops.studies.cnn_study),
        ("tfcore.inspect.figures.figures", tfcore.inspect),
    ):
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.delattr(parent, module.rpartition(".")[2], raising=False)
    monkeypatch.delitem(sys.modules, "tfcore.inspect.figures.study_figures", raising=False)
    monkeypatch.delattr(tfcore.inspect, "study_figures", raising=False)
    out = shutil.copytree(whole, tmp_path / "out", ignore=shutil.ignore_patterns("*.npz", "*.png", "study.*"))
    assert _call("--report", "--out", out) == 0  # after days of training, too
    text = capsys.readouterr().out
    assert f"left out: {out / 'figures'}: pictures need matplotlib, which is not installed: pip install" in text
    assert (out / "study.csv").read_text() == (whole / "study.csv").read_text() and (out / "study.md").exists()


def test_data_that_has_moved_costs_one_picture(whole, tmp_path, capsys, monkeypatch):
    out = shutil.copytree(whole, tmp_path / "out", ignore=shutil.ignore_patterns("*.npz", "*.png"))
    for place in out.rglob("recipe.json"):
        place.write_text(place.read_text().replace('"sample"', '"/no/such/folder"'))
    assert _call("--report", "--out", out) == 0
    assert f"left out: {out / 'figures' / 'samples.png'}: /no/such/folder" in capsys.readouterr().out
    assert (out / "figures" / "published" / "all-loss.png").exists() and not (out / "figures" / "samples.png").exists()
    monkeypatch.setattr("loops.studies.cnn_study.drawings.pictures", lambda results: ())
    assert _call("--report", "--out", out, "--data", "sample") == 0
    assert (out / "figures" / "samples.png").exists()


# What the histories show.


def test_findings_end_study_md(whole):
    section = (whole / "study.md").read_text().partition("## What the histories show\n")[2]
    ratio = {}
    for row in ("base", "sigmoid"):
        first = Run.open(whole / "published" / row / "seed-0").read_history()[0]
        ratio[row] = first["gradient_norm/convolutions/0/kernel"] / first["gradient_norm/logits/kernel"]
    assert f"ReLU (base) {ratio['base']:.3g}, sigmoid {ratio['sigmoid']:.3g}, tanh " in section
    assert ratio["sigmoid"] < ratio["base"] / 10


# Reported without training.


@pytest.fixture
def nothing_is_trained(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("trained")

    monkeypatch.setattr(study, "train", refuse)


def test_report_trains_nothing(whole, tmp_path, nothing_is_trained):
    out = shutil.copytree(whole, tmp_path / "out")
    for name in ("study.csv", "study.md"):
        (out / name).unlink()
    shutil.rmtree(out / "figures")
    _cut(out / "published" / "sgd" / "seed-0")
    assert _call("--report", "--out", out) == 0
    assert [line for line in _lines(out) if line["row"] != "sgd"] == [
        line for line in _lines(whole) if line["row"] != "sgd"
    ]
    assert not (out / "published" / "sgd" / "seed-0" / "summary.json").exists()
    assert len(list((out / "figures").rglob("*.png"))) > 20


def test_a_foreign_folder_is_named(whole, tmp_path, capsys, no_pictures):
    out = shutil.copytree(whole, tmp_path / "out", ignore=shutil.ignore_patterns("*.npz", "*.png"))
    (out / "published" / "gelu").mkdir()
    (out / "published" / "base" / "seed-x").mkdir()
    assert _call("--report", "--out", out) == 0
    assert f"left out: {out / 'published' / 'gelu'} is no row of the study" in capsys.readouterr().out
    assert len(_lines(out)) == len(_lines(whole))
