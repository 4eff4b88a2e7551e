"""`compare_numerics.py` itself: a pair, a record that is carried, a fault by its exit code, and what it refuses."""

import json

import pytest

from tfcore.inspect.numerics.divergence import Divergence, Verdict
from tfcore.inspect.numerics.record_file import load_record, save_record
from tfcore.inspect.pages.divergence_report import divergence_text

MLP = ("mlp_forda", "--data", "sample", "--set", "head_units=7", "--examples", "4")


@pytest.fixture
def compare(call):
    """Return a function that runs the script on a small multilayer perceptron."""
    return lambda *arguments: call("compare_numerics", *MLP, *arguments)


@pytest.fixture
def saved(compare, tmp_path):
    """Return a's record as a file."""
    code, printed, _ = compare("--a", "xla=off", "--save", tmp_path / "here.npz")
    assert code == 0 and f"compare it by --a saved={tmp_path / 'here.npz'}" in printed
    return tmp_path / "here.npz"


def test_a_pair_with_growth_as_page_and_json(compare, tmp_path):
    page, file = tmp_path / "parts.html", tmp_path / "parts.json"
    outputs = ("--html", page, "--json", file)
    code, printed, _ = compare("--a", "xla=off", "--b", "precision=mixed_bfloat16", "--steps", "3", *outputs)
    assert code == 0
    assert "rounding of float32 and bfloat16, as expected" in printed and "times" in printed.splitlines()[-1]
    found = json.loads(file.read_text())
    assert found["formats"] == ["float32", "bfloat16"] and not found["verdicts"]["forward"]["fault"]
    assert len(found["growth"]["distances"]) == 3 and found["b"] == "precision=mixed_bfloat16"
    html = page.read_text()
    assert found["verdicts"]["backward"]["sentence"] in html and "<polyline" in html


def test_a_carried_record_is_the_same_step_to_the_bit(compare, saved):
    code, printed, _ = compare("--a", f"saved={saved}", "--b", "xla=off")
    assert code == 0
    assert "forward: bit-equal everywhere" in printed and "backward: bit-equal everywhere" in printed


def test_a_fault_is_exit_code_1(compare, saved):
    record, about = load_record(saved)
    record.forward["logits"][0, 0] += 0.01
    save_record(saved, record, about)
    code, printed, _ = compare("--a", "xla=off", "--b", f"saved={saved}")
    assert code == 1 and "b parts from float64 in the output of logits" in printed


def test_the_batch_of_an_example_in_each_layer(compare, tmp_path):
    code, printed, _ = compare("--batch-invariance", "--json", tmp_path / "rows.json")
    assert code == 0 and "at another place" in printed and printed.splitlines()[-1].endswith("  model")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {"logits", "model"} <= {row["name"] for row in rows}
    assert max(row["distances"]["alone"] for row in rows) < 1e-5


def test_records_of_other_steps_are_refused_by_what_differs(compare, saved):
    code, _, complaint = compare("--a", f"saved={saved}", "--b", "xla=off", "--set", "seed=1")
    assert code == 2 and "seed changes the mathematics" in complaint
    code, _, complaint = compare("--a", f"saved={saved}", "--b", "xla=off", "--examples", "5")
    assert code == 2 and "a was recorded from other batch" in complaint


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--b", "seed=3"], "seed changes the mathematics"),
        (["--a", "saved=nowhere.npz"], "nowhere.npz: no record of a step"),
        (["--a", "saved=here.npz", "xla=on"], "--a: saved=FILE stands alone"),
        (["--a", "saved=here.npz", "--steps", "3"], "--a saved=FILE is one recorded step"),
        (["--steps", "1"], "--steps must be at least 2, got 1"),
        (["--examples", "1"], "--examples must be at least 2, got 1"),
        (["--csv", "rows.csv"], "all recipes make a table"),
        (["--batch-invariance", "--steps", "3"], "--batch-invariance has no --steps"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(compare, arguments, complaint):
    code, _, complained = compare(*arguments)
    assert code == 2 and complained.startswith("error: ") and complaint in complained
    assert complained.count("\n") == 1


def test_tensors_of_one_side_alone_are_counted_and_few_are_named():
    empty = Verdict("forward", None, False, "forward: bit-equal everywhere")
    found = Divergence(("float32", "float32"), [], empty, empty, ([f"output of {name}" for name in "abcdef"], ["loss"]))
    text = divergence_text(found, "title")
    assert "only in a: output of a, output of b, output of c, output of d and 2 more\n" in text
    assert "only in b: loss\n" in text
