"""audit.py and its reports: text, JSON and page of runs and recipes, and what is refused in one line."""

import dataclasses
import html.parser
import json
import shutil

import numpy as np
import pytest

from loops import recipes
from loops.data.dataset import Split
from loops.run.runs import Run
from loops.train import train
from tests.support.tiny import tiny_dataset
from tfcore.inspect.pages import page

DATASET = tiny_dataset()
SERIES = ("transformer_forda", "--data", "sample", "--set", "key_dim=3", "--set", "blocks=2", "--set", "head_units=7")
FEW = ("--batches", 2, "--batch-size", 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained ConvNet; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "convnet"
    settings = [("data", "sample"), ("epochs", "2"), ("batch_size", "32"), ("xla", "off")]
    train(Run.create(folder, recipes.get("convnet_cifar10").changed(settings)), DATASET)
    return folder


@pytest.fixture(autouse=True)
def _tiny_images(monkeypatch):
    monkeypatch.setattr("loops.data.sample.images", lambda classes: DATASET)


class _Reader(html.parser.HTMLParser):
    """Tags, attributes and text of a page; every tag must be closed by its own."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], {}, ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.update(attributes)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_test_split_that_is_held_back_stays_unseen(call, monkeypatch):
    dark = Split(np.zeros_like(DATASET.test.inputs), np.full_like(DATASET.test.labels, 3))
    shown = []
    for dataset in (DATASET, dataclasses.replace(DATASET, test=dark)):
        monkeypatch.setattr("loops.data.sample.images", lambda classes, dataset=dataset: dataset)
        held = ("--set", "validation=0.3", "--set", "hold_test=true", "--examples", 50)
        code, text, _ = call("audit", "convnet_cifar10", "--data", "sample", *FEW, *held)
        assert code == 0 and "interventions on 21 validation examples" in text
        shown.append(text)
    assert shown[0] == shown[1]


def test_the_dead_series_transformer(call, tmp_path):
    arguments = (*SERIES, *FEW, "--examples", 5)
    code, text, error = call("audit", *arguments, "--html", tmp_path / "a.html", "--json", tmp_path / "a.json")
    assert code == 0 and error == ""
    found = json.loads((tmp_path / "a.json").read_text())
    total, dead = found["parameters"]["total"], found["parameters"]["dead"]
    attention = 3 * (4 * 3 + 4 * 3) + 4 * 3 + 1
    assert dead == 2 * (attention + 1 + 8 + 5 + 1) and total == dead + 2 * 2 + 501 * 7 + 8 * 2
    assert f"{dead:,} of {total:,} parameters" in text and "blocks/1/output_norm" in text
    assert "each kill" in text and "untrained weights" in text and "permute the time steps" in text
    variables = {entry["variable"]: entry for entry in found["findings"] if "variable" in entry}
    layers = {entry["layer"]: entry for entry in found["findings"] if "layer" in entry}
    assert len(variables) == 2 * 14 and set(layers) == {cause["path"] for cause in found["causes"]}
    assert {"kind", "reason", "cause"} <= set(variables["blocks/0/attention/key/bias"])
    assert sum(entry["parameters"] for entry in variables.values()) == dead
    assert found["interventions"][0].keys() >= {"name", "accuracy", "lost", "error", "changed"}

    page_text = (tmp_path / "a.html").read_text()
    reader = _Reader(page_text)
    assert found["headline"] in reader.text and "zero head 3 of blocks/1/attention" in reader.text
    for entry in (*found["variables"], *found["layers"]):
        assert (entry.get("path") or entry["name"]) in reader.text
    assert not {"src", "href"} & set(reader.attributes) and not {"link", "script", "img"} & set(reader.tags)
    assert "http" not in page_text and "url(" not in page_text and "@import" not in page_text
    assert "prefers-color-scheme: dark" in page_text and "@media print" in page_text


def test_skipped_branches_are_named(call):
    code, text, _ = call("audit", *SERIES, *FEW, "--examples", 0, "--set", "constant_branches=skip")
    assert code == 0 and "skips the branch: constant_branches=skip" in " ".join(text.split())
    assert "interventions" not in text and "unreached" in text


def test_a_trained_run(call, trained, tmp_path):
    code, text, error = call(
        "audit", "convnet_cifar10", "--run", trained, *FEW, "--examples", 23, "--json", tmp_path / "a.json"
    )
    assert code == 0 and error == "" and "nothing is wrong: gradients reach all 319,178" in text
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["findings"] == [] and found["recipe"] == "convnet_cifar10" and f"best weights of {trained}" in text
    assert "untrained" not in text
    best = json.loads((trained / "summary.json").read_text())["best"]
    assert found["accuracy"] == pytest.approx(best["val_accuracy"])  # all 23 test examples
    assert [entry["name"] for entry in found["interventions"]] == ["drop convolutions/2"]


def test_a_vision_transformer_is_audited_in_float32(call):
    small = ("image_size=32", "width=8", "blocks=1", "heads=2", "mlp_width=8", "head_units=16", "head=mean")
    settings = [part for setting in (*small, "precision=mixed_bfloat16") for part in ("--set", setting)]
    code, text, _ = call(
        "audit", "vit_cifar100", "--data", "sample", *settings, "--set", "patch_size=8", *FEW, "--examples", 4
    )
    assert code == 0 and "nothing is wrong" in text and "cancelled: blocks/0/attention/key/bias" in text
    assert "permute the patches" in text and "gelu(blocks/0/feed_forward/dense/0)" in text


REFUSED = {
    "unknown recipe": (["convnet_cifar"], "did you mean 'convnet_cifar10'?"),
    "no run": (["convnet_cifar10", "--run", "/no/such/run"], "no run there"),
    "unknown field": (["convnet_cifar10", "--set", "filter=3"], "unknown field 'filter'"),
    "page in no folder": (["convnet_cifar10", "--html", "/no/such/folder/a.html"], "give a file in an existing folder"),
    "one batch": (["convnet_cifar10", "--batches", "1"], "--batches must be at least 2, got 1"),
    "one example": (["convnet_cifar10", "--batch-size", "1"], "--batch-size must be at least 2, got 1"),
    "too much": (["convnet_cifar10", "--data", "sample", "--batch-size", "50"], "are more than the 70 train examples"),
    "no data": (["convnet_cifar10", "--data", "/no/such/data"], "/no/such/data"),
    "no number": (["convnet_cifar10", "--examples", "x"], "invalid int value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(call, case):
    arguments, message = REFUSED[case]
    code, text, error = call("audit", *arguments)
    assert code == 2 and text == "" and error.count("\n") == 1 and error.startswith("error: ") and message in error


def test_a_run_that_does_not_fit_is_refused(call, trained, tmp_path):
    code, _, error = call("audit", "inn_cifar10", "--run", trained)
    assert code == 2 and "a run of convnet_cifar10, not of inn_cifar10" in error and error.count("\n") == 1
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "checkpoints" / "best.npz").unlink()
    code, _, error = call("audit", "convnet_cifar10", "--run", run)
    assert code == 2 and "no best checkpoint" in error and error.count("\n") == 1


def test_a_page_escapes_all_text():
    evil = '<script>alert("x")</script>&'
    text = page.page(
        evil,
        [
            page.heading(evil),
            page.paragraph(evil),
            page.lead(evil, bad=True),
            page.table([evil], [[evil], ["1"]], bad=[True]),
            page.folded(evil, []),
        ],
    )
    reader = _Reader(text)
    assert "script" not in reader.tags and reader.text.count(evil) == 8


def test_columns_of_numbers_are_set_right():
    text = page.table(["name", "share"], [["a", "1.5 %"], ["b", "−3.0e-05"]])
    assert text.count("class=number") == 3  # the header and two cells
    with pytest.raises(ValueError):
        page.table(["a", "b"], [["1"]])
