"""The reader of the binary CIFAR files: values against the bytes, and one error line for each kind of damage."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from loops.data import cifar
from loops.data.dataset import DataError

NAMES = ["cifar10", "cifar100"]
REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def tiny_layouts(monkeypatch):
    """The real layouts, with 3 records in a training file and 2 in a test file."""
    for name in NAMES:
        layout = cifar.LAYOUTS[name]
        tiny = dataclasses.replace(layout, train=dict.fromkeys(layout.train, 3), test=dict.fromkeys(layout.test, 2))
        monkeypatch.setitem(cifar.LAYOUTS, name, tiny)


def write(folder: Path, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write random files; returns file -> (images (n, H, W, C), classes), put together pixel by pixel."""
    layout = cifar.LAYOUTS[name]
    generator = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}
    for file, count in (layout.train | layout.test).items():
        images = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
        labels = np.stack([generator.integers(0, limit, count, np.uint8) for limit in layout.label_limits], 1)
        content = b""
        for image, label in zip(images, labels, strict=True):
            content += label.tobytes()
            for plane in range(3):
                content += b"".join(image[row, :, plane].tobytes() for row in range(32))
        (folder / file).write_bytes(content)
        expected[file] = images, labels[:, -1]
    return expected


def checksums(folder: Path, name: str) -> None:
    files = cifar.LAYOUTS[name].file_bytes
    sums = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files}
    (folder / "checksums.json").write_text(json.dumps(sums))


def patch(path: Path, offset: int, value: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] = value
    path.write_bytes(content)


def error_of(folder: Path, name: str) -> str:
    with pytest.raises(DataError) as caught:
        cifar.read(folder, name)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inside", [False, True])
def test_values(tmp_path, name, inside):
    layout = cifar.LAYOUTS[name]
    expected = write(tmp_path / layout.folder if inside else tmp_path, name)
    data = cifar.read(tmp_path, name)
    for split, files in ((data.train, layout.train), (data.test, layout.test)):
        np.testing.assert_array_equal(split.inputs, np.concatenate([expected[file][0] for file in files]))
        np.testing.assert_array_equal(split.labels, np.concatenate([expected[file][1] for file in files]))
        assert split.inputs.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert split.inputs.flags.c_contiguous
    assert data.name == name
    assert layout.title in data.source and str(tmp_path) in data.source
    assert "verified" not in data.source


def test_official_sizes(monkeypatch):
    """Known from the data sets' page; the fixture's tiny layouts are taken away."""
    monkeypatch.undo()
    files = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    assert cifar.LAYOUTS["cifar10"].file_bytes == dict.fromkeys(files, 30_730_000)
    assert cifar.LAYOUTS["cifar100"].file_bytes == {"train.bin": 153_700_000, "test.bin": 30_740_000}


def test_class_names_built_in(tmp_path):
    write(tmp_path, "cifar10")
    names = cifar.read(tmp_path, "cifar10").class_names
    assert (len(names), names[0], names[6], names[9]) == (10, "airplane", "frog", "truck")
    write(tmp_path, "cifar100")
    names = cifar.read(tmp_path, "cifar100").class_names
    assert (len(names), names[0], names[67], names[99]) == (100, "apple", "ray", "worm")
    assert list(names) == sorted(set(names))


@pytest.mark.parametrize("name", NAMES)
def test_class_names_equal_the_published(name):
    packed = REAL / f"{name}_jpeg.npz"
    if not packed.exists():
        pytest.skip(f"{packed} is not there")
    assert cifar.LAYOUTS[name].class_names == tuple(np.load(packed)["class_names"])


def test_class_names_from_file(tmp_path):
    write(tmp_path, "cifar10")
    names = tuple(f"kind{i}" for i in range(10))
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n")  # an empty line, as in the official file
    assert cifar.read(tmp_path, "cifar10").class_names == names
    (tmp_path / "batches.meta.txt").write_text("\n".join(names[:9]))
    assert "batches.meta.txt: 9 class names, expected 10" in error_of(tmp_path, "cifar10")


def test_truncated(tmp_path):
    write(tmp_path, "cifar10")
    path = tmp_path / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-1])
    message = error_of(tmp_path, "cifar10")
    assert f"{path}: cut off at byte 9,218, in record 2, expected 9,219 bytes (3 records of 3,073)" in message
    assert "--data auto" in message


def test_oversized(tmp_path):
    write(tmp_path, "cifar100")
    path = tmp_path / "test.bin"
    path.write_bytes(path.read_bytes() + b"12")
    message = error_of(tmp_path, "cifar100")
    assert f"{path}: 6,150 bytes, too long from byte 6,148 on, expected 6,148 bytes" in message


def test_missing_file(tmp_path):
    write(tmp_path, "cifar10")
    (tmp_path / "test_batch.bin").unlink()
    assert "test_batch.bin: file is missing, expected 6,146 bytes" in error_of(tmp_path, "cifar10")


def test_folder_in_place_of_a_file(tmp_path):
    write(tmp_path, "cifar10")
    (tmp_path / "test_batch.bin").unlink()
    (tmp_path / "test_batch.bin").mkdir()
    assert "test_batch.bin: cannot be read (Is a directory)" in error_of(tmp_path, "cifar10")


@pytest.mark.parametrize(
    ("name", "file", "column", "value", "limit"),
    [
        ("cifar10", "data_batch_2.bin", 0, 10, 9),
        ("cifar100", "train.bin", 1, 100, 99),
        ("cifar100", "test.bin", 0, 20, 19),
    ],
)
def test_label_out_of_range(tmp_path, name, file, column, value, limit):
    write(tmp_path, name)
    offset = cifar.LAYOUTS[name].record_bytes + column
    patch(tmp_path / file, offset, limit)
    cifar.read(tmp_path, name)  # the largest label is good
    patch(tmp_path / file, offset, value)
    message = error_of(tmp_path, name)
    assert f"{file}: label {value} in record 1 (byte {offset:,}), expected 0 to {limit}" in message


def test_flipped_bit_is_found_by_checksum(tmp_path):
    write(tmp_path, "cifar10")
    checksums(tmp_path, "cifar10")
    assert "checksums verified" in cifar.read(tmp_path, "cifar10").source
    path = tmp_path / "data_batch_5.bin"
    patch(path, 4_000, path.read_bytes()[4_000] ^ 1)
    message = error_of(tmp_path, "cifar10")
    assert f"{path}: content has changed since the download" in message
    assert f"delete the folder {tmp_path} and download again" in message


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe{", b"{}"])
def test_damaged_checksums(tmp_path, content):
    write(tmp_path, "cifar10")
    (tmp_path / "checksums.json").write_bytes(content)
    assert "checksums.json" in error_of(tmp_path, "cifar10")


def test_folder_without_data(tmp_path):
    write(tmp_path / "cifar-100-binary", "cifar100")
    message = error_of(tmp_path, "cifar10")
    assert "holds no CIFAR-10 data, expected data_batch_1.bin" in message
    assert str(tmp_path / "cifar-10-batches-bin") in message


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["cifar-10-binary.tar.gz"], "{0}/cifar-10-binary.tar.gz is still packed: tar xf {0}/cifar-10-binary.tar.gz"),
        (["down/CIFAR10.ZIP"], "{0}/down/CIFAR10.ZIP is still packed: unzip {0}/down/CIFAR10.ZIP -d {0}"),
        (["cifar.tgz", "notes.txt"], "{0}/cifar.tgz is still packed"),
        (["cifar-10-batches-py/data_batch_1"], "{0}/cifar-10-batches-py/data_batch_1 is of the Python version"),
        (["data_batch_1", "batches.meta"], "is of the Python version, which is pickle and is never loaded"),
        (["cifar-10-python.tar.gz"], "{0}/cifar-10-python.tar.gz is of the Python version"),
        (["a/b/cifar-10-batches-bin/test_batch.bin"], "they lie deeper, in {0}/a/b/cifar-10-batches-bin: give that"),
        (["train.bin", "test.bin"], "what lies there is CIFAR-100: give the folder of CIFAR-10"),
        (["thesis.txt"], "unpack the *binary* version there"),
        ([], "unpack the *binary* version there"),
    ],
)
def test_what_lies_there_is_named(tmp_path, names, advice):
    _touch(tmp_path, *names)
    message = error_of(tmp_path, "cifar10")
    assert "holds no CIFAR-10 data" in message and advice.format(tmp_path) in message
    assert "delete" not in message


def test_only_what_was_downloaded_is_to_be_deleted(tmp_path):
    write(tmp_path, "cifar10")
    (tmp_path / "data_batch_3.bin").unlink()
    assert "delete" not in error_of(tmp_path, "cifar10")
    (tmp_path / "checksums.json").write_text("{}")
    message = error_of(tmp_path, "cifar10")
    assert "delete the folder" in message


def test_folder_missing(tmp_path):
    assert "no such folder" in error_of(tmp_path / "nowhere", "cifar10")


def test_folder_is_a_file(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(b"x")
    assert "is a file, expected a folder" in error_of(path, "cifar10")
