"""The tables of the results: what they read out of runs, on made-up runs. That pages show them: test_readme.py."""

import json

import pytest

from loops.studies.results import accuracy, best, pages

RUN = {"parameters": 12_466, "best": {"val_accuracy": 0.86}}
HISTORY = "epoch,seconds,val_accuracy\n1,70.5,0.40\n2,60.0,0.45\n3,60.0,0.86\n"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two seeds of the involution network's best recipe, and one faithful run that comes nowhere."""
    monkeypatch.setattr(best, "RESULTS", tmp_path)
    monkeypatch.setattr("loops.studies.results.files.RESULTS", tmp_path)
    for seed, accuracies in enumerate([(0.84, 0.85), (0.86, 0.87)]):
        looks = [{"tta": None, "accuracy": accuracies[0]}, {"tta": "mirror", "accuracy": accuracies[1]}]
        write(tmp_path / f"inn_cifar10_best-seed{seed}", looks, HISTORY)
    write(tmp_path / "inn_cifar10-seed0", [], HISTORY[: HISTORY.index("2,")])
    return tmp_path


def write(folder, looks, history):
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(RUN))
    (folder / "test.json").write_text(json.dumps({"looks": looks}))
    (folder / "history.csv").write_text(history)


def test_a_best_recipe_is_a_row_of_its_seeds(results):
    heads, row = best.outcomes()  # the others have not been trained
    assert dict(zip(heads, row, strict=True)) == {
        "recipe": "`inn_cifar10_best`",
        "parameters": "12,466 of 13,080",
        "published (faithful)": "0.4418",
        "validation": "0.8600 ± 0.0000 (2 seeds)",
        "test": "0.8500 ± 0.0141",
        "test, mirrored views": "0.8600 ± 0.0141",
        "s to the published figure": "130",
        "faithful recipe's": "never",
    }
    assert best.best_of("inn_cifar10") == "0.8500 ± 0.0141 (2 seeds; 12,466 parameters)"
    assert best.best_of("cnn_cifar10") == ""


def test_seconds_are_summed_up_to_the_first_epoch_that_gets_there(results):
    write(results / "inn_cifar10-seed1", [], HISTORY)
    assert best.outcomes()[1][-1] == "130 (1 of 2 never)"


def test_a_run_whose_test_split_was_not_looked_at_is_refused(results):
    (results / "inn_cifar10_best-seed1" / "test.json").write_text('{"looks": [{"tta": "mirror", "accuracy": 0.9}]}')
    with pytest.raises(ValueError, match=r"inn_cifar10_best-seed1.test\.json tells of no look with tta=None"):
        best.outcomes()


def test_the_mean_over_sets_is_taken_seed_by_seed(results):
    """Two sets that err in turn: their mean is steadier than each of them."""
    series = results / "series"
    series.mkdir()
    (series / "sets.csv").write_text(
        "set,train,test,length,nearest_neighbour\nOther,1,1,1,0.1\nA,1000,3,5,0.5000\nB,7,11,13,0.8000\n"
    )
    of_model = {"A": [0.6, 0.8], "B": [0.9, 0.7]}
    entries = [{"set": name, "recipe": "model, changed", "accuracies": values} for name, values in of_model.items()]
    (series / "seven-sets.json").write_text(json.dumps(entries))
    assert accuracy.seven_sets() == [
        ["", "train, test, length", "1 nearest neighbour", "`model`, changed"],
        ["A", "1,000, 3, 5", "0.5000", "0.7000 ± 0.1414"],
        ["B", "7, 11, 13", "0.8000", "0.8000 ± 0.1414"],
        ["mean of the sets", "", "0.6500", "0.7500 ± 0.0000"],
    ]


def test_an_ablation_is_set_beside_the_recipe_as_it_is(results):
    """A file's name may tell of the data set, too."""

    def entry(change, last, difference, loss, spread=None):
        return {"change": change, "last": last, "spread": spread, "loss": loss, "difference": difference}

    (results / "best").mkdir()
    of_one, of_another = results / "best" / "a_best-ablation.json", results / "best" / "b_best-Ham-ablation.json"
    of_one.write_text(json.dumps([entry("unchanged", 0.75, 0.0, 0.7), entry("mirror=false", 0.5, -0.25, 1.3)]))
    of_another.write_text(json.dumps([entry("unchanged", 0.5, 0.0, 1.1), entry("cutout=0", 0.625, 0.125, 1, 0.0625)]))
    assert best.ablations() == [
        ["recipe", "change", "validation, last epoch", "difference", "loss"],
        ["`a_best`", "unchanged", "0.7500", "", "0.700"],
        ["`a_best`", "mirror=false", "0.5000", "-0.2500", "1.300"],
        ["`b_best`, Ham", "unchanged", "0.5000", "", "1.100"],
        ["`b_best`, Ham", "cutout=0", "0.6250 ± 0.0625", "+0.1250", "1.000"],
    ]


def test_a_table_of_more_columns_than_marks_is_refused(monkeypatch):
    monkeypatch.setitem(pages.TABLES, "parity", (lambda: [["a", "b"], ["1", "2"]], "l"))
    with pytest.raises(ValueError, match="table parity: its 2 columns and the 1 marks 'l' do not fit"):
        pages.with_tables("<!-- table parity -->\n<!-- end of table -->\n")
