"""Test-time augmentation, and evaluate.py's looks at a test split that a run left unseen."""

import json

import numpy as np
import pytest
import tensorflow as tf

from loops import data
from loops.evaluation import evaluate
from loops.run.restore import restored_model
from loops.train import train
from loops.views import VIEWS, MeanOfViews
from tests.support.runs import new_run
from tests.support.tiny import tiny_dataset

DATASET = tiny_dataset()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = [("validation", "0.3"), ("hold_test", "true"), ("epochs", "1")]
    run = new_run(tmp_path_factory.mktemp("views") / "run", *settings)
    lines = []
    train(run, DATASET, report=lines.append)
    assert f"python scripts/evaluate.py {run.folder} looks at it" in lines[-1]
    return run


@pytest.mark.parametrize("views", VIEWS)
def test_the_mean_is_that_of_views_made_by_hand(run, views):
    model, images = restored_model(run), DATASET.test.inputs.astype(np.float32) / 255
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], "symmetric")
    expected = []
    for step in {"mirror": (0,), "shift": (0, 1, -1)}[views]:
        moved = padded[:, 1 + step : 33 + step, 1 + step : 33 + step]
        expected += [tf.nn.softmax(model(view)) for view in (moved, moved[:, :, ::-1])]
    found = MeanOfViews(model, views)(tf.constant(images))
    np.testing.assert_allclose(tf.exp(found), np.mean(expected, axis=0), rtol=1e-5, atol=1e-7)


def test_refusals(run):
    model = restored_model(run)
    with pytest.raises(ValueError, match="tta must be one of mirror, shift, got 'ten'"):
        MeanOfViews(model, "ten")
    with pytest.raises(ValueError, match="in inference alone"):
        MeanOfViews(model, "mirror")(tf.zeros([2, 32, 32, 3]), training=True)
    with pytest.raises(ValueError, match=r"views are of images \(B, H, W, C\)"):
        MeanOfViews(model, "mirror")(tf.zeros([2, 500, 1]))


def test_each_look_at_the_test_split_is_written_down(call, run, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_, **__: DATASET)
    looks = run.folder / "test.json"
    code, text, _ = call("evaluate", run.folder, "--split", "validation", "--tta", "mirror")
    assert code == 0 and "21 validation examples" in text and "mean of views (mirror)" in text and not looks.exists()
    code, text, _ = call("evaluate", run.folder)
    assert code == 0 and "for the first time" in text
    code, text, _ = call("evaluate", run.folder, "--tta", "shift")
    assert code == 0 and "looked at 1 times before" in text
    first, second = json.loads(looks.read_text())["looks"]
    split = {"classes": 10, "batch_size": 32}
    assert first["accuracy"] == evaluate(restored_model(run), DATASET.test, **split)["accuracy"]
    assert (first["tta"], second["tta"], second["checkpoint"]) == (None, "shift", "best.npz")
    model = MeanOfViews(restored_model(run), "shift")
    assert second["loss"] == pytest.approx(evaluate(model, DATASET.test, **split)["loss"])


def test_what_means_nothing_is_refused(call, run, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_, **__: DATASET)
    code, _, error = call("evaluate", run.folder, "--tta", "mirror", "--export", tmp_path / "served")
    assert code == 2 and "--split and --tta are for metrics" in error
    whole = new_run(tmp_path / "whole", ("epochs", "1"))
    train(whole, DATASET)
    code, _, error = call("evaluate", whole.folder, "--split", "validation")
    assert code == 2 and "holds no validation share out" in error
