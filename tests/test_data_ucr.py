"""The reader of the UCR files: values against the text, and one error line for each kind of damage."""

import time
from pathlib import Path

import numpy as np
import pytest

from loops.data import ucr
from loops.data.dataset import DataError

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "ucr"
TRAIN = "-1\t0.5\t-2\t1e-3\n1\t7\t+8.25\t.5\n-1\t3\t4\t5\n"
TEST = "1\t1\t2\t3\n-1\t-1\t-2\t-3\n"


def write(folder: Path, train: str | bytes = TRAIN, test: str | bytes = TEST) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in (("TRAIN", train), ("TEST", test)):
        path = folder / f"Tiny_{part}.tsv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def error_of(folder: Path, name: str = "Tiny") -> str:
    with pytest.raises(DataError) as caught:
        ucr.read(folder, name)
    message = str(caught.value)
    assert "\n" not in message and "\t" not in message
    assert "; " in message  # finding; remedy
    return message


@pytest.mark.parametrize("inside", [False, True])
def test_values(tmp_path, inside):
    home = tmp_path / "Tiny" if inside else tmp_path
    write(home)
    data = ucr.read(tmp_path, "Tiny")
    np.testing.assert_array_equal(data.train.inputs[..., 0], np.float32([[0.5, -2, 1e-3], [7, 8.25, 0.5], [3, 4, 5]]))
    np.testing.assert_array_equal(data.test.inputs[..., 0], np.float32([[1, 2, 3], [-1, -2, -3]]))
    np.testing.assert_array_equal(data.train.labels, [0, 1, 0])
    np.testing.assert_array_equal(data.test.labels, [1, 0])
    for split, count in ((data.train, 3), (data.test, 2)):
        assert split.inputs.shape == (count, 3, 1)
        assert split.inputs.dtype == np.float32 and split.labels.dtype == np.int32
    assert data.class_names == ("-1", "1")
    assert (data.name, data.source) == ("Tiny", f"Tiny, UCR files in {home}")


def test_the_sets_own_folder_comes_first(tmp_path):
    write(tmp_path, "5\t1\n6\t2\n", "5\t1\n")
    write(tmp_path / "Tiny")
    assert ucr.read(tmp_path, "Tiny").class_names == ("-1", "1")


def test_text_of_other_editors(tmp_path):
    """Windows line ends, a byte order mark, no line end after the last series: the same data."""
    write(tmp_path)
    expected = ucr.read(tmp_path, "Tiny")
    write(tmp_path, b"\xef\xbb\xbf" + TRAIN.replace("\n", "\r\n").encode(), TEST.removesuffix("\n"))
    found = ucr.read(tmp_path, "Tiny")
    for one, other in ((found.train, expected.train), (found.test, expected.test)):
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_class_names_in_numeric_order(tmp_path):
    """As numbers, not as text; one label in several spellings is one class; the test file's order does not matter."""
    write(tmp_path, "10\t1\n2.0\t1\n-0\t1\n1e1\t1\n2\t1\n0\t1\n0.5\t1\n-3\t1\n", "10.0\t1\n0\t1\n-3\t1\n")
    data = ucr.read(tmp_path, "Tiny")
    assert data.class_names == ("-3", "0", "0.5", "2", "10")
    np.testing.assert_array_equal(data.train.labels, [4, 3, 1, 4, 3, 1, 2, 0])
    np.testing.assert_array_equal(data.test.labels, [4, 1, 0])


# What line 2 of the train file holds -> what is said of it.
LINES = {
    "1\t7\tseven\t9": "column 3 is 'seven', no number, expected a finite number",
    "one\t7\t8\t9": "the label is 'one', no number, expected a number as in line 1 (-1)",
    "1\t7\t\t9": "column 3 is a missing value (NaN, ? or empty), expected a finite number; have it filled in by --set",
    "1\t7\t8\t9\t\t": "the series ends after 3 of 5 values",
    "\t7\t8\t9": "column 1 is empty (the line starts with a tab: its label is missing)",
    "1\t7\tNaN\t9": "column 3 is a missing value",
    "1\t7\t?\t9": "column 3 is a missing value",
    "1\t7\t8\tNaN": "the series ends after 2 of 3 values, then they are missing, expected series of one length; take",
    "1\tNaN\t\t?": "all values are missing",
    "nan\t7\t8\t9": "the label is 'nan', a missing value",
    "1\t7\t8\t-inf": "column 4 is '-inf', infinite",
    "inf\t7\t8\t9": "the label is 'inf', infinite",
    "1\t7\t1e39\t9": "column 3 is '1e39', infinite in single precision",
    "1\t7\t1e999\t9": "column 3 is '1e999', infinite",
    "1\t7\t1_000\t9": "column 3 is '1_000', no number",
    "1\t7\t\uff11\t9": "column 3 is '\uff11', no number",
    "1\t7\t\x1c8\t9": "column 3 is '\\x1c8', no number",
    "1\t7\t8": "2 values after the label, expected 3 as in line 1",
    "1\t7": "1 value after the label, expected 3",
    "1\t7\t8\t9\t10": "4 values after the label, expected 3 as in line 1",
    "1": "one column ('1'), expected a label and the values",
    "1\t0,5\t7\t8": "column 2 is '0,5', no number, expected a finite number (with a point, not a comma, before",
    "1,7,8,9": "one column ('1,7,8,9'), expected a label and the values of a series, separated by tabs",
    "1 7 8 9": "one column ('1 7 8 9')",
    "": "the line is blank",
    "  ": "the line is blank",
    "1\t7\t8\0\t9": "these bytes are no UTF-8 text",
    f"1\t{'x' * 100}\t8\t9": f"column 2 is '{'x' * 40}...', no number",
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bad_line_is_named(tmp_path, line, end):
    first, _, third = TRAIN.splitlines()
    write(tmp_path, end.join([first, line, third]) + end)
    assert f"{tmp_path / 'Tiny_TRAIN.tsv'}, line 2: {LINES[line]}" in error_of(tmp_path)


def test_largest_number_is_taken_and_tiny_ones_become_zero(tmp_path):
    write(tmp_path, "1\t3.4028235e38\n2\t1e-99\n", "1\t0\n")
    inputs = ucr.read(tmp_path, "Tiny").train.inputs
    np.testing.assert_array_equal(inputs[:, 0, 0], [np.finfo(np.float32).max, 0])


def test_first_bad_line_is_named_whatever_is_wrong_with_it(tmp_path):
    write(tmp_path, "1\t1\n2\t2\n1\tnan\n2\t1\t2\n1\tx\n")
    assert "line 5: column 2 is 'x'" in error_of(tmp_path)  # what is no text of series comes before what they hold
    write(tmp_path, "1\t1\n2\t2\n1\tnan\n2\t1\t2\n")
    assert "line 3: all values are missing" in error_of(tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n\r\n", "  \n\t\n"])
def test_blank_lines_at_the_end(tmp_path, end):
    write(tmp_path, TRAIN + end)
    assert len(ucr.read(tmp_path, "Tiny").train) == 3


def test_first_line_without_values(tmp_path):
    write(tmp_path, "1\n2\n")
    assert "Tiny_TRAIN.tsv, line 1: one column ('1')" in error_of(tmp_path)


@pytest.mark.parametrize("train", [True, False])
def test_empty_file(tmp_path, train):
    write(tmp_path, "" if train else TRAIN, TEST if train else "")
    assert f"Tiny_{'TRAIN' if train else 'TEST'}.tsv: the file is empty" in error_of(tmp_path)


@pytest.mark.parametrize("content", [TRAIN.encode("utf-16"), b"\x93NUMPY\x01", bytes(100)])
def test_not_a_text_file(tmp_path, content):
    write(tmp_path, content)
    assert "Tiny_TRAIN.tsv, line 1: these bytes are no UTF-8 text" in error_of(tmp_path)


def test_test_file_of_another_length(tmp_path):
    write(tmp_path, TRAIN, "1\t1\t2\n-1\t1\t2\n")
    message = error_of(tmp_path)
    assert "Tiny_TEST.tsv, line 1: 2 values after the label, expected 3 as in Tiny_TRAIN.tsv" in message


def test_one_class_only(tmp_path):
    write(tmp_path, "1\t1\n1.0\t2\n", "1\t1\n")
    assert "Tiny_TRAIN.tsv: every line has the label 1, expected two classes" in error_of(tmp_path)


def test_label_that_train_does_not_have(tmp_path):
    write(tmp_path, TRAIN, TEST + "2\t1\t2\t3\n")
    message = error_of(tmp_path)
    assert "Tiny_TEST.tsv, line 3: label 2, expected one of the labels in Tiny_TRAIN.tsv (-1, 1)" in message


def test_missing_files(tmp_path):
    message = error_of(tmp_path)
    assert f"Tiny_TRAIN.tsv and Tiny_TEST.tsv missing, looked for in {tmp_path / 'Tiny'} and in {tmp_path};" in message
    assert "--data DIR" in message and "cs.ucr.edu" in message
    write(tmp_path / "Tiny")
    (tmp_path / "Tiny" / "Tiny_TEST.tsv").unlink()
    message = error_of(tmp_path)
    assert message.startswith(f"Tiny_TEST.tsv missing, looked for in {tmp_path / 'Tiny'} and in {tmp_path} ")
    assert "(the sets there: Tiny)" in error_of(tmp_path, "Other")
    assert "missing, looked for" in error_of(tmp_path / "nowhere")


def test_other_places_than_expected(tmp_path):
    write(tmp_path)
    (tmp_path / "Tiny_TRAIN.tsv").unlink()
    (tmp_path / "Tiny_TRAIN.tsv").mkdir()
    assert f"{tmp_path / 'Tiny_TRAIN.tsv'}: cannot be read (Is a directory)" in error_of(tmp_path)
    assert "is a file, expected a folder" in error_of(tmp_path / "Tiny_TEST.tsv")


@pytest.mark.parametrize("name", ["", ".", "..", "../Tiny", "/etc/Tiny", "a\\b", "a\0b", "Tiny/"])
def test_a_name_is_no_path(tmp_path, name):
    write(tmp_path)
    (tmp_path / "below").mkdir()
    assert f"series set {name!r}: this is no name" in error_of(tmp_path / "below", name)


def test_damage_anywhere_is_refused_or_harmless(tmp_path):
    """A byte replaced at random: an error line, or data that are whole, finite and in range."""
    generator = np.random.default_rng(11)
    refused = 0
    for _ in range(300):
        content = bytearray(TRAIN.encode())
        content[generator.integers(len(content))] = generator.choice(list(b"\0\t\n\r ,-.eE_0x\x1c\x85\xff"))
        write(tmp_path, bytes(content))
        try:
            data = ucr.read(tmp_path, "Tiny")
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert data.train.inputs.shape == (3, 3, 1) and np.isfinite(data.train.inputs).all()
            assert set(data.train.labels) == set(range(len(data.class_names)))
    assert 100 < refused < 300


def test_as_large_as_forda_in_seconds(tmp_path):
    """Measured: under a second; the limit leaves room for a busy machine."""
    values = np.random.default_rng(5).normal(size=(3601, 500))
    lines = [f"{1 - 2 * (i % 2)}\t" + "\t".join(f"{value:.8g}" for value in row) for i, row in enumerate(values)]
    write(tmp_path, "\n".join(lines), "\n".join(lines[:3]))
    begin = time.perf_counter()
    data = ucr.read(tmp_path, "Tiny")
    assert time.perf_counter() - begin < 5
    np.testing.assert_allclose(data.train.inputs[..., 0], values, rtol=1e-6)


# Set -> series to train, to test, length, labels: the figures of shared/data/README.md.
PUBLISHED = {
    "FordA_part": (577, 1320, 500, ("-1", "1")),
    "Earthquakes": (322, 139, 512, ("0", "1")),
    "GunPoint": (50, 150, 150, ("1", "2")),
    "ItalyPowerDemand": (67, 1029, 24, ("1", "2")),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_files_as_numpy_reads_them(name):
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there")
    train, test, length, class_names = PUBLISHED[name]
    data = ucr.read(REAL, name)
    assert (len(data.train), len(data.test), data.class_names) == (train, test, class_names)
    for part, split in (("TRAIN", data.train), ("TEST", data.test)):
        table = np.loadtxt(REAL / name / f"{name}_{part}.tsv", delimiter="\t")
        assert split.inputs.shape == (len(table), length, 1)
        np.testing.assert_array_equal(split.inputs[..., 0], table[:, 1:].astype(np.float32))
        np.testing.assert_array_equal(np.int32(class_names)[split.labels], table[:, 0])


def series_error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        ucr.read_series(path, length=3, class_names=("-1", "1"))
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path)) and "; " in message
    return message


def test_series_with_and_without_a_label(tmp_path):
    path = tmp_path / "new.tsv"
    for text in ("1\t2\t3\n7\t8\t9\n", "-1\t1\t2\t3\n1.0\t7\t8\t9\n", "1 2 3\r\n7 8 9", "1,1,2,3,\n-1,7,8,9,\n\n"):
        path.write_text(text)
        series = ucr.read_series(path, length=3, class_names=("-1", "1"))
        assert series.shape == (2, 3, 1) and series.dtype == np.float32
        np.testing.assert_array_equal(series[..., 0], [[1, 2, 3], [7, 8, 9]])


SERIES = {
    "1\t2": "line 2: 2 numbers, expected 3 as in line 1",
    "1": "line 2: 1 number, expected 3",
    "1\t2\t3\t4": "line 2: 4 numbers, expected 3 as in line 1",
    "1\t2\tx": "line 2: column 3 is 'x', no number",
    "1\tnan\t2": "line 2: column 2 is a missing value",
    "1\t2\tnan": "line 2: the series ends after 2 of 3 values",
    "nan\t1\t2": "line 2: column 1 is a missing value",
    "one\t1\t2": "line 2: column 1 is 'one', no number",
    "": "line 2: the line is blank",
    "1\t\xff": "line 2: these bytes are no UTF-8 text",
}


@pytest.mark.parametrize("line", SERIES)
def test_series_that_do_not_fit(tmp_path, line):
    path = tmp_path / "new.tsv"
    path.write_bytes(f"7\t2\t3\n{line}\n7\t2\t3\n".encode("latin-1"))
    assert f"{path}, {SERIES[line]}" in series_error_of(path)


# Text of the whole file -> what is said of it.
SERIES_FILES = {
    "1\t1\t2\t3\t4\n": "line 1: 5 numbers, expected 3 (the values that the model takes) or 4 (a label before them)",
    "1\t2\t3\n-1\t2\t3\n": "each line begins with a class of the run (-1, 1) and holds 3 numbers",
    "1\t2\t3\t4\n2\t2\t3\t4\n": "line 2: column 1 is '2', which is none of the run's classes (-1, 1)",
    "2\t3\t4\t1\n5\t6\t7\t-1\n": "the labels stand at the end of the lines: put them first, or leave them out",
    "up\t3\t4\t5\n": "column 1 is 'up', which is none of the run's classes",
}


@pytest.mark.parametrize("text", SERIES_FILES)
def test_series_files_of_one_width_with_labels_of_the_run(tmp_path, text):
    path = tmp_path / "new.tsv"
    path.write_text(text)
    assert SERIES_FILES[text] in series_error_of(path)


def test_series_files_that_are_none(tmp_path):
    path = tmp_path / "new.tsv"
    assert "cannot be read (No such file" in series_error_of(path)
    path.write_bytes(b"")
    assert "the file is empty" in series_error_of(path)
    assert "cannot be read (Is a directory)" in series_error_of(tmp_path)
