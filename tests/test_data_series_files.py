"""Files of series as people have them: the same data, whatever they are written in; and what is mended if asked for."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from loops import data
from loops.data import ucr
from loops.data.dataset import DataError, Dataset
from loops.data.repair import Repair
from loops.run.runs import Run
from loops.train import train

VALUES = [[0.5, -2, 1e-3], [7, 8.25, 0.5], [3, 4, 5]]
LABELS = ["-1", "1", "-1"]


def table(separator: str, *, end: str = "\n", trailing: str = "", labels=LABELS, values=VALUES, start: str = "") -> str:
    rows = zip(labels, values, strict=True)
    return "".join(start + separator.join([label, *map(str, row)]) + trailing + end for label, row in rows)


def ts(values=VALUES, labels=LABELS, header: str = "", classes: str = "true -1 1") -> str:
    lines = "".join(",".join(map(str, row)) + f":{label}\n" for row, label in zip(values, labels, strict=True))
    return (
        "# made up\n\n@problemName Tiny\n@timeStamps  false\n@missing false\n@univariate true\n"
        f"{header}@classLabel {classes}\n@data\n{lines}"
    )


def arff(quote: str = "", classes: str = "{-1,1}") -> str:
    lines = "".join(
        ",".join(map(str, row)) + f",{quote}{label}{quote}\n" for row, label in zip(VALUES, LABELS, strict=True)
    )
    attributes = "".join(f"@attribute att{i} numeric\n" for i in range(3))
    return f"% made up\n@RELATION Tiny\n\n{attributes}@attribute target {classes}\n\n@DATA\n{lines}"


# Name of the file, after Tiny_TRAIN -> its content.
LAYOUTS = {
    ".tsv": table("\t"),
    ".TSV": table("\t"),
    ".txt": table("   "),
    ".txt in numpy's columns": table("  ", labels=["-1.0000000e+00", " 1.0000000e+00", "-1.0000000e+00"], start="  "),
    " without ending, commas": table(","),
    ".csv": table(",", end="\r\n"),
    ".csv with semicolons": table(";"),
    ".tsv with a tab at the end": table("\t", trailing="\t"),
    ".csv with a comma at the end": table(",", trailing=","),
    ".tsv with a tab at the last end only": table("\t").removesuffix("\n") + "\t",
    ".tsv with blank last lines": table("\t", end="\r\n") + "\r\n \r\n",
    ".txt under a comment": "# label, values\n" + table(" "),
    ".ts": ts(),
    ".ts with carriage returns": ts().replace("\n", "\r\n") + "\r\n",
    ".arff": arff(),
    ".ARFF with quotes": arff("'", "{'-1', '1'}"),
    ".tsv.gz": table("\t"),
    ".ts.gz": ts(),
    ".tsv named so but .ts inside": ts(),
    ".arff named so but commas inside": table(","),
}


def write(folder: Path, train: str | bytes, ending: str = ".tsv", test: str | bytes | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in (("TRAIN", train), ("TEST", train if test is None else test)):
        content = content if isinstance(content, bytes) else content.encode()
        packed = gzip.compress(content) if ending.endswith(".gz") else content
        (folder / f"Tiny_{part}{ending}").write_bytes(packed)


def error_of(folder: Path, **settings) -> str:
    with pytest.raises(DataError) as caught:
        ucr.read(folder, "Tiny", Repair(**settings))
    message = str(caught.value)
    assert "\n" not in message and "; " in message
    return message


def is_the_data(found: Dataset) -> None:
    for split in (found.train, found.test):
        np.testing.assert_array_equal(split.inputs[..., 0], np.float32(VALUES))
        np.testing.assert_array_equal(split.labels, [0, 1, 0])
    assert found.class_names == ("-1", "1")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_data_in_every_layout(tmp_path, layout):
    write(tmp_path, LAYOUTS[layout], layout.split(" ")[0])
    is_the_data(ucr.read(tmp_path, "Tiny"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_series_for_a_prediction(tmp_path, layout):
    write(tmp_path, LAYOUTS[layout], layout.split(" ")[0])
    path = next(tmp_path.glob("Tiny_TRAIN*"))
    found = ucr.read_series(path, length=3, class_names=("-1", "1"))
    np.testing.assert_array_equal(found[..., 0], np.float32(VALUES))


def test_ts_without_labels_is_for_prediction_alone(tmp_path):
    text = ts(classes="false").replace(":-1\n", "\n").replace(":1\n", "\n")
    write(tmp_path, text, ".ts")
    found = ucr.read_series(tmp_path / "Tiny_TRAIN.ts", length=3, class_names=("-1", "1"))
    np.testing.assert_array_equal(found[..., 0], np.float32(VALUES))
    assert "Tiny_TRAIN.ts, line 9: no label" in error_of(tmp_path)


@pytest.mark.parametrize("place", ["", "Tiny", "UCRArchive_2018/Tiny", "a/b/Tiny", "UCR_TS_Archive_2015/deep"])
def test_a_folder_deeper_or_shallower(tmp_path, place):
    write(tmp_path / place, table("\t"))
    found = ucr.read(tmp_path, "Tiny")
    is_the_data(found)
    assert str(tmp_path / place) in found.source


def test_of_two_places_none_is_guessed(tmp_path):
    write(tmp_path / "2015", table(","), "")
    write(tmp_path / "2018", table("\t"))
    message = error_of(tmp_path)
    assert "lies in 2 folders" in message and "2015" in message and "2018" in message
    write(tmp_path, table("\t"))
    is_the_data(ucr.read(tmp_path, "Tiny"))  # the named folder's own come first


def test_of_several_endings_one_that_has_both_parts_is_read(tmp_path):
    write(tmp_path, table("\t", labels=["5", "6", "5"]), ".txt")
    write(tmp_path, table("\t"), ".ts")  # content decides what it is, the order of the endings which is read
    is_the_data(ucr.read(tmp_path, "Tiny"))
    (tmp_path / "Tiny_TEST.ts").unlink()
    assert ucr.read(tmp_path, "Tiny").class_names == ("5", "6")
    (tmp_path / "Tiny_TEST.txt").unlink()
    assert "Tiny_TEST." in error_of(tmp_path) and "missing" in error_of(tmp_path)


def test_packed_files_are_named(tmp_path):
    (tmp_path / "UCRArchive_2018.zip").write_bytes(b"PK\x03\x04")
    assert "UCRArchive_2018.zip must be unpacked first" in error_of(tmp_path)
    write(tmp_path, b"PK\x03\x04and so on")
    assert "this is a zip archive" in error_of(tmp_path)


def test_words_are_classes_in_the_order_of_text(tmp_path):
    words = ["not_ok", "Grün", "not_ok"]
    for content, ending in ((table("\t", labels=words), ".tsv"), (ts(labels=words), ".ts")):
        write(tmp_path / ending, content, ending)
        found = ucr.read(tmp_path / ending, "Tiny")
        assert found.class_names == ("Grün", "not_ok")
        np.testing.assert_array_equal(found.train.labels, [1, 0, 1])
    write(tmp_path, table("\t", labels=words), test=table("\t", labels=["ok", *words[1:]]))
    assert "Tiny_TEST.tsv, line 1: label ok, expected one of the labels in Tiny_TRAIN.tsv (Grün, not_ok)" in error_of(
        tmp_path
    )
    write(tmp_path, table("\t", labels=["ok", "1", "ok"]))
    assert "line 2: the label is 1, a number, expected a word as in line 1 (ok)" in error_of(tmp_path)


BROKEN = {
    "cut gzip": (gzip.compress(table("\t").encode())[:-9], "a damaged gzip file"),
    "nonsense after a gzip head": (b"\x1f\x8b\x08\x00packed", "a damaged gzip file"),
    "zip": (b"PK\x03\x04", "this is a zip archive"),
    "header of names": (b"label\tt0\tt1\n1\t2\t3\n", "line 1: no number stands there ('t0', ...)"),
    "two channels": (ts().replace(":1", ",1:2,3:1").encode(), "3 parts between colons"),
    "multivariate": (ts(header="@univariate false\n").encode(), "@univariate false, expected series of one channel"),
    "time stamps": (ts(header="@timestamps true\n").encode(), "@timestamps true, expected series of one channel"),
    "no @data": (ts().replace("@data\n", "").encode(), "a series before @data"),
    "sparse": (arff().replace("7,8.25", "{1 7,8").encode(), "a sparse line"),
    "a blank line between": (table("\t", end="\n\n").encode(), "line 2: the line is blank"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_taken_is_named(tmp_path, case):
    content, message = BROKEN[case]
    write(tmp_path, content)
    assert message in error_of(tmp_path)


# Missing values and unequal lengths.

HOLES = "1\tNaN\t2\t?\t4\n2\t1\t\tnan\t4\n1\t1\t2\t3\tNaN\n2\t4\t3\t2\t1\n"
RAGGED = "1\t1\t2\t3\n2\t5\t6\n1\t7\t8\t9\tnan\n2\t1\n"


def test_missing_values_are_refused_or_lie_on_a_line(tmp_path):
    write(tmp_path, HOLES.replace("3\tNaN", "3\t4"))
    message = error_of(tmp_path)
    assert "line 1: column 2 is a missing value" in message and "--set missing=linear" in message
    found = ucr.read(tmp_path, "Tiny", Repair(missing="linear"))
    np.testing.assert_array_equal(found.train.inputs[..., 0], [[2, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [4, 3, 2, 1]])
    assert found.repairs == {"filled_values": 8}  # four in each of two files
    assert found.source.endswith(", 8 missing values filled in linearly")


def test_the_end_of_a_series_is_not_made_up(tmp_path):
    write(tmp_path, HOLES)
    assert "line 3: the series ends after 3 of 4 values" in error_of(tmp_path, missing="linear")
    found = ucr.read(tmp_path, "Tiny", Repair("linear", "pad"))
    np.testing.assert_array_equal(found.train.inputs[2, :, 0], [1, 2, 3, 0])
    assert found.repairs == {"filled_values": 8, "padded_series": 2}


def test_unequal_lengths_are_refused_or_padded_with_zeros(tmp_path):
    write(tmp_path, RAGGED.replace("\tnan", ""))
    message = error_of(tmp_path)
    assert "line 2: 2 values after the label, expected 3 as in line 1" in message and "--set lengths=pad" in message
    longer = "1\t1\t2\t3\t4\n2\t5\t6\t7\t8\n"
    write(tmp_path, RAGGED, test=longer)
    found = ucr.read(tmp_path, "Tiny", Repair(lengths="pad"))
    np.testing.assert_array_equal(found.train.inputs[..., 0], [[1, 2, 3, 0], [5, 6, 0, 0], [7, 8, 9, 0], [1, 0, 0, 0]])
    assert found.test.inputs.shape == (2, 4, 1) and found.repairs == {"padded_series": 4}
    assert "4 series padded with zeros to 4 values" in found.source
    write(tmp_path, RAGGED.replace("7\t8", "7\tnan"))
    assert "column 3 is a missing value" in error_of(tmp_path, lengths="pad")
    write(tmp_path, ts(values=[[1, 2], [3], [4, "?", 5]]), ".ts")
    assert ucr.read(tmp_path, "Tiny", Repair("linear", "pad")).train.inputs.shape[1] == 3


def test_a_prediction_is_mended_as_the_training_was(tmp_path):
    path = tmp_path / "new.txt"
    names = {"class_names": ("1", "2"), "length": 4}
    path.write_text("1 5 ? 7 8\n2 1 2 nan nan\n")
    with pytest.raises(DataError, match="column 3 is a missing value"):
        ucr.read_series(path, **names)
    found = ucr.read_series(path, **names, repair=Repair("linear", "pad"))
    np.testing.assert_array_equal(found[..., 0], [[5, 6, 7, 8], [1, 2, 0, 0]])
    path.write_text("5 6 7 8\n3 4\n")
    found = ucr.read_series(path, **names, repair=Repair(lengths="pad"))
    np.testing.assert_array_equal(found[..., 0], [[5, 6, 7, 8], [3, 4, 0, 0]])
    path.write_text("1 3 4\n2 5\n")
    found = ucr.read_series(path, **names, repair=Repair(lengths="pad"))  # labels, by all of them being classes
    np.testing.assert_array_equal(found[..., 0], [[3, 4, 0, 0], [5, 0, 0, 0]])


def test_a_recipe_says_what_is_mended(tmp_path):
    from loops import recipes

    write(tmp_path, RAGGED, test=HOLES)
    settings = [("dataset", "Tiny"), ("data", str(tmp_path)), ("missing", "linear"), ("lengths", "pad")]
    recipe = recipes.get("mlp_forda").changed(settings)
    assert data.of_recipe(recipe).repairs == {"filled_values": 4, "padded_series": 5}
    assert {"missing": "linear", "lengths": "pad"}.items() <= recipe.to_json().items()
    run = Run.create(tmp_path / "run", recipe.changed([("epochs", "1"), ("batch_size", "2"), ("xla", "off")]))
    train(run, data.of_recipe(run.recipe))
    assert run.read_json("environment.json")["repairs"] == {"filled_values": 4, "padded_series": 5}
    assert {"filled_values": 4, "padded_series": 5}.items() <= run.read_history()[0].items()
    for setting, value in (("missing", "zero"), ("lengths", "cut")):
        with pytest.raises(ValueError, match=rf"{setting} must be one of refuse, \w+, got '{value}'"):
            recipe.changed([(setting, value)])
    with pytest.raises(ValueError, match="unknown field 'missing'"):
        recipes.get("inn_cifar10").changed([("missing", "linear")])
