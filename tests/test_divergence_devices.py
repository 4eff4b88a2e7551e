"""One device beside two: the record of a step whose batch is divided."""

import json
import subprocess
import sys

import pytest

from loops import recipes
from loops.health.divergence import Step
from tests.support.house import ROOT
from tests.support.tiny import tiny_dataset


def test_batch_norm_of_each_share_is_other_mathematics():
    settings = [("data", "sample"), ("filters", "3,5,7"), ("units", "8"), ("batch_norm", "after"), ("devices", "2")]
    settings += [("batch_size", "4")]
    with pytest.raises(
        ValueError, match="devices changes the mathematics here: norms/0 normalizes each device's share"
    ):
        Step(recipes.get("cnn_cifar10").changed(settings), tiny_dataset(), 4)


def test_two_devices_beside_one(tmp_path):
    """In a process of its own: devices are made before TensorFlow's first operation."""
    file = tmp_path / "found.json"
    words = "convnet_cifar10 --data sample --examples 5 --steps 2 --set filters=2,3,5 --set units=7 --b devices=2"
    command = [sys.executable, "scripts/compare_numerics.py", *words.split(), "--json", str(file)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    found = json.loads(file.read_text())
    outputs = {row["name"]: row for row in found["tensors"] if row["kind"] == "forward"}
    assert outputs["convolutions/2"]["equal"] and outputs["logits"]["b"]["error"] < 1e-5  # 3 + 2 examples side by side
    assert not found["verdicts"]["backward"]["fault"] and 0 < found["growth"]["distances"][-1] < 1e-4


def test_devices_that_mean_nothing_are_refused(call):
    for arguments, message in (
        (["--a", "devices=2", "--b", "devices=3"], "got 2 and 3"),
        (["--a", "devices=2", "--batch-invariance"], "--batch-invariance looks at one device"),
    ):
        code, _, error = call("compare_numerics", "convnet_cifar10", "--data", "sample", *arguments)
        assert code == 2 and message in error
