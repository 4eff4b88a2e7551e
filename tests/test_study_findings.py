"""What study.md says of the runs: sentences from their histories, differences from the published figures, states."""

import dataclasses
from pathlib import Path

from loops import recipes
from loops.studies import study
from loops.studies.cnn_study import findings, rows, tables

ENVIRONMENT = {"class_names": list("abcdefghij"), "gpus": [], "cpu": "a CPU", "data": "CIFAR-10"}


def _history(**columns) -> list[dict]:
    count = len(next(iter(columns.values())))
    usual = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, "seconds": 1.0}
    return [
        {"epoch": i + 1, **usual, **{name.replace("__", "/"): v[i] for name, v in columns.items()}}
        for i in range(count)
    ]


def _result(row: str, history: list[dict], epochs: int = 4) -> study.Result:
    recipe = recipes.get("cnn_cifar10").changed([("epochs", str(epochs)), *rows.ROWS[row].settings.items()])
    summary = {} if len(history) == epochs else None
    return study.Result(f"published/{row}", recipe, Path(), history, summary, ENVIRONMENT)


def test_findings_are_the_numbers_of_the_histories():
    first, last = "gradient_norm__convolutions__0__kernel", "gradient_norm__logits__kernel"
    weight, share = "weight_norm__convolutions__0__kernel", "near_zero__convolutions__0__kernel"
    base = _history(
        **{first: [6, 1, 1, 1], last: [3, 1, 1, 1], weight: [1, 2, 3, 4], share: [0.01, 0.02, 0.03, 0.04]},
        val_loss=[1.5, 0.75, 0.8, 1.25],
        loss=[2.0, 0.9, 0.5, 0.25],
    )
    sigmoid = _history(**{first: [0.001, 1], last: [4, 1], "gradient_norm__activations__0__alpha": [9, 9]})
    for row in sigmoid:
        row["val_accuracy"] = 0.2  # twice chance: reached, not passed
    l2 = _history(**{weight: [0.5, 0.25]})
    l1 = _history(**{share: [0.3, 0.4, 0.5]})
    norm = _history(
        moving_rms__norms__1__moving_variance=[0.9, 0.7, 0.5],
        moving_rms__norms__1__moving_mean=[0.1, 0.2, 0.3],
        val_accuracy=[0.1, 0.19, 0.31],
        accuracy=[0.45, 0.5, 0.6],
    )
    stopped = _history(val_loss=[2.0, 1.0, 1.5])
    found = {"base": base, "sigmoid": sigmoid, "l2": l2, "l1": l1, "batch_norm": norm, "early_stopping": stopped}
    results = [_result(row, history) for row, history in found.items()]
    results[-1] = dataclasses.replace(results[-1], summary={})
    text = findings.findings(results)
    assert text[0] == (
        "base: the test loss is lowest after epoch 2 (0.750); after epoch 4 it is 1.250, while the train loss went "
        "from 0.900 to 0.250."
    )
    assert text[1] == "early_stopping: stopped after epoch 3 of 4; its lowest test loss is that of epoch 2."
    assert text[2].endswith("mean of epoch 1: ReLU (base) 2, sigmoid 0.00025.")
    assert "first passes 0.20, twice chance, after epoch 1 (0.500" in text[3]
    assert text[4] == "sigmoid: the test accuracy has not passed 0.20, twice chance, in 2 epochs."
    assert text[5] == "Norms of the conv kernels, first to last, after epoch 2: base 2.00, l2 0.25."
    assert text[6].endswith("after epoch 3: base 3.0%, l1 50.0%.")
    assert "after epoch 3 (0.310; after epoch 1 0.100, where the train accuracy is 0.450)" in text[7]
    assert text[8].endswith("after epoch 1 → after epoch 3: norm 2 0.9 → 0.5.") and len(text) == 9
    for row, line in (("base", 0), ("early_stopping", 1), ("sigmoid", 2), ("l2", 5), ("l1", 6), ("batch_norm", 8)):
        fewer = findings.findings([result for result in results if result.row != f"published/{row}"])
        assert text[line] not in fewer and len(fewer) < len(text)
    bare = [dataclasses.replace(r, history=[dict(list(row.items())[:6]) for row in r.history]) for r in results]
    assert len(findings.findings(bare)) == 5  # without diagnostics: what losses and accuracies tell
    assert findings.findings([]) == []


def _at(accuracy: float, result: study.Result) -> study.Result:
    """The run as if it were one of CIFAR-10 with this test accuracy."""
    history = [*result.history[:-1], {**result.history[-1], "val_accuracy": accuracy, "accuracy": 0.9}]
    recipe = dataclasses.replace(result.recipe, data="auto")
    return dataclasses.replace(result, recipe=recipe, history=history)


def test_differences_from_the_published_figures():
    base = _result("base", _history(loss=[1.0, 0.3, 0.3, 0.3]))
    other = dataclasses.replace(base, recipe=dataclasses.replace(base.recipe, seed=1))
    for accuracies, shown in (((0.7409,), "+0.015"), ((0.7421,), "+0.016 *"), ((0.69, 0.72), "-0.021 *")):
        results = [_at(a, result) for a, result in zip(accuracies, (base, other), strict=False)]
        lines = [tables.line(result) for result in results]
        (heads, cells) = tables.table(lines, "published")
        assert dict(zip(heads, cells, strict=True))["published"] == "0.726"
        assert dict(zip(heads, cells, strict=True))["difference"] == shown
        (_, beside) = tables.beside_published(lines)
        assert beside[2].endswith(f" / 0.726 / {shown}") and beside[1].endswith(" / 0.911 / -0.011")
        text = tables.markdown(results, command="")
        assert "Ours / published / difference" in text and ("\\* |" in text) == ("*" in shown)
    unfinished = dataclasses.replace(_at(0.5, base), summary=None)
    assert tables.beside_published([tables.line(unfinished)])[1:] == []


def test_a_run_that_early_stopping_ended_is_finished():
    history = _history(val_loss=[3.0, 1.0, 2.0], val_accuracy=[0.1, 0.2, 0.3])
    result = dataclasses.replace(_result("early_stopping", history), summary={})
    line = tables.line(result)
    assert line.finished and tables.state(line) == "3, stopped early"
    assert line.best_epoch == 2  # of the lowest loss, which it watches
    assert tables.line(_result("base", history)).best_epoch == 3  # of the best accuracy
    assert tables.state(tables.line(_result("base", history))) == "3 of 4 epochs, not finished"
    assert tables.state(tables.line(_result("base", history, epochs=3))) == "3"
