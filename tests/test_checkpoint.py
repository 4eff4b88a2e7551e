"""Checkpoints: atomic when written, checked when read."""

import errno
import os

import numpy as np
import pytest
import tensorflow as tf

from loops.run import checkpoint
from loops.run.checkpoint import CheckpointError
from tfcore import random
from tfcore.layers.dense import Dense

META = {"epoch": 3, "best": 0.25}


def _layer(seed=0):
    return {"model": Dense(inputs=7, units=5, key=random.make_key(seed))}


def test_round_trip(tmp_path):
    saved, other = _layer(0), _layer(1)
    checkpoint.save(tmp_path / "a.npz", checkpoint.capture(saved), META)
    arrays, meta = checkpoint.load(tmp_path / "a.npz")
    checkpoint.restore(other, arrays, tmp_path / "a.npz")
    assert meta == META
    np.testing.assert_array_equal(other["model"].kernel, saved["model"].kernel)
    assert os.listdir(tmp_path) == ["a.npz"]


def test_captured_arrays_do_not_follow_the_variables():
    parts = _layer()
    arrays = checkpoint.capture(parts)
    before = arrays["model/kernel"].copy()
    parts["model"].kernel.assign(tf.zeros((7, 5)))
    np.testing.assert_array_equal(arrays["model/kernel"], before)


@pytest.mark.parametrize("where", [0.02, 0.3, 0.6, 0.98])
def test_truncated_or_flipped_files_are_refused(tmp_path, where):
    path = tmp_path / "a.npz"
    checkpoint.save(path, checkpoint.capture(_layer()), META)
    content = path.read_bytes()
    path.write_bytes(content[: int(where * len(content))])
    with pytest.raises(CheckpointError, match=r"a\.npz: damaged"):
        checkpoint.load(path)


def test_a_flipped_bit_in_any_array_is_found(tmp_path):
    path = tmp_path / "a.npz"
    arrays = checkpoint.capture(_layer())
    checkpoint.save(path, arrays, META)
    content = bytearray(path.read_bytes())
    for value in arrays.values():
        position = bytes(content).index(value.tobytes()) + value.nbytes // 2
        content[position] ^= 4
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(path)
        content[position] ^= 4
    path.write_bytes(content)
    checkpoint.load(path)


def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path):
    """In the zip's and the arrays' headers too, which NumPy reads before it has seen a CRC."""
    path = tmp_path / "a.npz"
    arrays = checkpoint.capture(_layer())
    checkpoint.save(path, arrays, META)
    content = bytearray(path.read_bytes())
    found = 0
    for position in range(len(content)):
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        content[position] ^= 1 << position % 8
        try:
            loaded, meta = checkpoint.load(path)
        except CheckpointError:
            found += 1
            continue
        assert meta == META and loaded.keys() == arrays.keys()
        assert all(np.array_equal(loaded[name], value) for name, value in arrays.items())
    assert found > len(content) // 2


def test_missing_file_and_other_models_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "a.npz")
    layer, wider = _layer(), {"model": Dense(inputs=7, units=11, key=random.make_key(0))}
    before = wider["model"].kernel.numpy()
    with pytest.raises(CheckpointError, match=r"model/kernel is float32 \(7, 5\), the model needs float32 \(7, 11\)"):
        checkpoint.restore(wider, checkpoint.capture(layer), tmp_path / "a.npz")
    with pytest.raises(CheckpointError, match="holds no optimizer/kernel"):
        checkpoint.restore({"optimizer": layer["model"]}, checkpoint.capture(layer), tmp_path / "a.npz")
    np.testing.assert_array_equal(wider["model"].kernel, before)


def test_nothing_pickled_is_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", meta=np.array({"epoch": 1}, dtype=object))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path / "a.npz")


def test_the_newest_intact_one_is_used_and_broken_ones_are_named(tmp_path):
    for step in (10, 20, 100):
        checkpoint.save(checkpoint.step_path(tmp_path, step), checkpoint.capture(_layer()), {"epoch": step})
    checkpoint.step_path(tmp_path, 100).write_bytes(b"rubbish")
    path, _, meta, complaints = checkpoint.newest_intact(tmp_path)
    assert path == checkpoint.step_path(tmp_path, 20) and meta == {"epoch": 20}
    assert len(complaints) == 1 and "step-000000100.npz" in complaints[0]
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        checkpoint.newest_intact(tmp_path / "none")


def test_prune_keeps_the_newest_and_no_later_one_that_was_passed_over(tmp_path):
    for step in (9, 10, 100, 101, 102):
        checkpoint.step_path(tmp_path, step).touch()
    (tmp_path / "best.npz").touch()
    checkpoint.prune(tmp_path, 2, newest=checkpoint.step_path(tmp_path, 100))
    assert sorted(os.listdir(tmp_path)) == ["best.npz", "step-000000010.npz", "step-000000100.npz"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "a.npz"
    checkpoint.save(path, checkpoint.capture(_layer(0)), META)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    module, name = {"write": (np, "savez"), "fsync": (os, "fsync"), "replace": (os, "replace")}[step]
    monkeypatch.setattr(module, name, full)
    with pytest.raises(OSError, match=r"cannot write .*a\.npz: No space left on device; what was there before is kept"):
        checkpoint.save(path, checkpoint.capture(_layer(1)), META)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]
