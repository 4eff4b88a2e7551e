"""The study's pictures show the numbers that they are given."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.collections import LineCollection

from loops import recipes
from loops.studies.cnn_study import drawings, rows
from loops.studies.study import Result
from tests.support.tiny import tiny_dataset
from tfcore.inspect.figures import study_figures
from tfcore.inspect.figures.figures import LINES


def _history(values, **columns):
    """Accuracy and losses made from one list of numbers, so that no two lines are the same."""
    return [
        {"epoch": i + 1, "accuracy": v, "val_accuracy": v / 2, "loss": 3 - v, "val_loss": 4 - v, "seconds": 1.0}
        | {name: other[i] for name, other in columns.items()}
        for i, v in enumerate(values)
    ]


def _result(row, history, *, seed=0, finished=True, protocol="published"):
    settings = [*rows.PROTOCOLS[protocol].items(), *rows.ROWS[row].settings.items(), ("seed", str(seed))]
    recipe = recipes.get("cnn_cifar10").changed(settings)
    summary = {"test": {"accuracy": 0.25, "loss": 2.0}} if finished else None
    environment = {"class_names": list("abcdefghij"), "gpus": [], "cpu": "x"}
    return Result(f"{protocol}/{row}", recipe, Path(), history, summary, environment)


def _lines(panel):
    """Label -> points of a panel's lines."""
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()}


def _titles(figure):
    return [panel.get_title() for panel in figure.axes if panel.get_title()]


def _labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return tf.io.decode_png(file.getvalue(), channels=3).numpy()


def test_activation_functions_and_derivatives():
    figure = drawings.activation_functions()
    assert figure.axes[0].get_xlim() == (-10, 10)
    above, below = figure.axes[:5], figure.axes[5:]
    names = ["sigmoid", "tanh", "ReLU", "leaky ReLU,\nslope 0.01", "PReLU,\nslope 0.08"]
    assert [panel.get_title() for panel in above] == names
    x = np.linspace(-10, 10, 2002)

    def drawn(panel):
        (line,) = [line for line in panel.get_lines() if len(line.get_xdata()) > 2]
        np.testing.assert_array_equal(line.get_xdata(), x)
        return line.get_ydata()

    sigmoid = 1 / (1 + np.exp(-x))
    expected = [sigmoid, np.tanh(x), *(np.where(x > 0, x, slope * x) for slope in (0, 0.01, 0.08))]
    derivatives = [sigmoid * (1 - sigmoid), 1 - np.tanh(x) ** 2]
    derivatives += [np.where(x > 0, 1, slope) for slope in (0, 0.01, 0.08)]
    for panel, values in zip(above, expected, strict=True):
        np.testing.assert_allclose(drawn(panel), values, atol=1e-12)
    for panel, values, gaps in zip(below, derivatives, (0, 0, 1, 1, 1), strict=True):
        shown = drawn(panel)
        assert np.isnan(shown).sum() == gaps  # no line down the jump
        np.testing.assert_allclose(shown[~np.isnan(shown)], values[~np.isnan(shown)], atol=1e-12)


def test_curves_of_a_row_with_the_published_point():
    histories = [_history([0.2, 0.4]), _history([0.3, 0.6, 0.7])]
    figure = study_figures.run_curves(histories, unseen="test", published=(50, 0.726, 1.007), title="base: $x$")
    accuracy, loss = figure.axes
    points = [(list(line.get_xdata()), list(line.get_ydata())) for line in accuracy.get_lines()]
    assert points[:4] == [
        ([1, 2], [0.2, 0.4]),
        ([1, 2], [0.1, 0.2]),
        ([1, 2, 3], [0.3, 0.6, 0.7]),
        ([1, 2, 3], [0.15, 0.3, 0.35]),
    ]
    assert _lines(accuracy)["published test"] == ([50], [0.726]) and _lines(loss)["published test"] == ([50], [1.007])
    assert _lines(loss)["train"][1] == [2.8, 2.6] and _lines(loss)["test"][1] == [3.8, 3.6]
    assert _labels(figure) == ["train", "test", "published test"]
    plain = study_figures.run_curves(histories, unseen="validation")
    assert _labels(plain) == ["train", "validation"]


def test_all_rows_on_common_axes_beside_the_base():
    own = {row: [_history([0.1 * k, 0.2 * k])] for k, row in enumerate(("base", "l1", "tanh", "sgd", "l2"), start=1)}
    figure = study_figures.all_curves(own, "accuracy", unseen="test", reference="base")
    panels = figure.axes[:5]
    assert [panel.get_title() for panel in panels] == list(own)
    assert "base, test" not in _lines(panels[0])
    for number, panel in enumerate(panels[1:], start=2):
        assert _lines(panel)["base, test"][1] == [0.05, 0.1]
        assert _lines(panel)["train"][1] == [0.1 * number, 0.2 * number]
    assert len({panel.get_ylim() for panel in panels}) == 1
    assert set(_labels(figure)) == {"train", "test", "base, test"}
    # One epoch far above the rest does not flatten all others.
    own["l2"] = [_history([-1000.0, *[0.5] * 300])]
    top = study_figures.all_curves(own, "loss", unseen="test", reference="base").axes[0].get_ylim()[1]
    assert 3.5 < top < 10


def test_bars_with_spread_and_published_mark():
    results = [
        _result("base", _history([0.4, 0.8])),
        _result("base", _history([0.4, 0.6]), seed=1),
        _result("dropout", _history([0.5]), finished=False),
        _result("tanh", _history([0.3])),
    ]
    figure = drawings.accuracy_bars(results, "published")
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["base", "dropout", "tanh"]
    assert [bar.get_width() for bar in panel.patches] == pytest.approx([0.7, 0.35, 0.3, 0.15])
    colours = [bar.get_facecolor()[:3] for bar in panel.patches]
    assert colours[0] != colours[1] and colours[:2] == colours[2:]
    marks = [line for line in panel.get_lines() if line.get_marker() == "D" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in marks] == [[0.726]]  # dropout has one, but is not finished
    texts = [text.get_text() for text in panel.texts]
    assert texts == ["0.350 ± 0.071", "1 of 50 epochs, not finished", "0.150"]
    errors = [collection for collection in panel.collections if isinstance(collection, LineCollection)]
    ends = [list(segment[:, 0]) for collection in errors for segment in collection.get_segments()]
    train, test = 0.02**0.5, 0.005**0.5  # n − 1 in the denominator
    assert ends == [pytest.approx([0.7 - train, 0.7 + train]), pytest.approx([0.35 - test, 0.35 + test])]
    assert _labels(figure) == ["train", "test (figures to the right)", "published test"]


def test_bars_of_the_fair_protocol_are_of_the_test_split():
    figure = drawings.accuracy_bars([_result("base", _history([0.4, 0.8]), protocol="fair")], "fair")
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([0.8, 0.25])
    assert "published test" not in _labels(figure)


def test_a_run_that_lost_its_best_weights_is_no_finished_one():
    """All epochs are done, but the test split could not be looked at."""
    lost = _result("base", _history([0.4, 0.8]), protocol="fair")
    lost.summary.pop("test")
    assert not lost.finished
    assert not drawings.accuracy_bars([lost], "fair").axes[0].patches  # no bar stands for it


NORMS = {f"gradient_norm/{name}/kernel": [1.0 / k, 2.0 / k] for k, name in enumerate(("convolutions/0", "logits"), 1)}
WEIGHTS = {"weight_norm/convolutions/0/kernel": [5.0, 4.0], "weight_norm/logits/kernel": [9.0, 9.0]}
SHARES = {"near_zero/convolutions/0/kernel": [0.1, 0.3], "near_zero/logits/kernel": [0.0, 0.0]}
STATISTICS = {"moving_rms/norms/0/moving_mean": [0.1, 0.2], "moving_rms/norms/0/moving_variance": [0.9, 0.5]}


def _pictures(*found):
    columns = {**NORMS, **WEIGHTS, **SHARES}
    results = [
        _result(row, _history([0.2, 0.4], **columns, **(STATISTICS if row == "batch_norm" else {}))) for row in found
    ]
    return dict(drawings.pictures(results))


def test_insights_show_the_histories_columns():
    found = _pictures("base", "l2", "l1", "sigmoid", "prelu", "batch_norm")
    flow = found["published/gradient-norms"]
    assert _titles(flow) == ["ReLU", "sigmoid", "PReLU"]
    assert _lines(flow.axes[1]) == {"conv 1": ([1, 2], [1.0, 2.0]), "logits": ([1, 2], [0.5, 1.0])}
    assert flow.axes[0].get_yscale() == "log"
    for name, panel, values in (("weight-norms", "conv 1", [5.0, 4.0]), ("near-zero-weights", "conv 1", [0.1, 0.3])):
        figure = found[f"published/{name}"]
        assert _titles(figure) == [panel]  # the penalized kernels alone
        assert _lines(figure.axes[0])["base"] == ([1, 2], values)
    assert _labels(found["published/weight-norms"]) == ["base", "l2"]
    assert _labels(found["published/near-zero-weights"]) == ["base", "l1", "l2"]
    drift = found["published/batch-norm-statistics"]
    mean, variance, accuracy = drift.axes
    assert _lines(mean) == {"norm 1": ([1, 2], [0.1, 0.2])} and _lines(variance) == {"norm 1": ([1, 2], [0.9, 0.5])}
    assert _lines(accuracy) == {"train accuracy": ([1, 2], [0.2, 0.4]), "test accuracy": ([1, 2], [0.1, 0.2])}
    assert _labels(drift) == ["norm 1", "train accuracy", "test accuracy"]


@pytest.mark.parametrize(
    ("found", "insights"),
    [
        (["base"], ["gradient-norms"]),
        (["l2", "l1"], []),
        (["base", "l1"], ["gradient-norms", "near-zero-weights"]),
        (["batch_norm"], ["batch-norm-statistics"]),
    ],
)
def test_only_what_the_rows_allow(found, insights):
    names = ["activation-functions", "published/accuracy-bars", "published/all-accuracy", "published/all-loss"]
    names += [f"published/curves-{row}" for row in rows.ROWS if row in found]
    assert list(_pictures(*found)) == [*names, *(f"published/{name}" for name in insights)]


def test_without_diagnostics_no_insights():
    names = list(dict(drawings.pictures([_result(row, _history([0.1])) for row in rows.ROWS])))
    assert len(names) == 1 + 3 + len(rows.ROWS) and "published/gradient-norms" not in names


def test_an_unfinished_run_is_marked_in_the_titles():
    found = dict(drawings.pictures([_result("tanh", _history([0.1]), finished=False)]))
    mark = "1 of 50 epochs, not finished"
    assert mark in found["published/curves-tanh"].get_suptitle()
    assert mark in found["published/all-loss"].axes[0].get_title().replace("\n", " ")


def test_samples_are_train_images_with_their_names():
    dataset = tiny_dataset()
    figure = drawings.samples(dataset)
    panels = [panel for panel in figure.axes if panel.images]
    assert len(panels) == 25
    indices = []
    for panel in panels:
        image = panel.images[0].get_array().data
        (index,) = np.flatnonzero((dataset.train.inputs == image).all(axis=(1, 2, 3)))
        assert panel.get_title() == dataset.class_names[dataset.train.labels[index]]
        indices.append(index)
    assert len(set(indices)) == 25 and indices != sorted(indices)
    few = dataclasses.replace(dataset, train=dataset.test)
    assert len([panel for panel in drawings.samples(few).axes if panel.images]) == 23


def test_nothing_is_cut_off_at_the_edges():
    """A border of white: no title, legend or number reaches beyond the picture."""
    long = [_result(row, _history([0.1 * k, 0.2]), finished=row != "early_stopping") for k, row in enumerate(rows.ROWS)]
    for name, figure in drawings.pictures(long):
        pixels = _png(figure)
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == 255).all(), name


def test_train_and_unseen_differ_in_colour_and_style():
    assert len({style["color"] for style in study_figures.STYLES}) == len(study_figures.STYLES) == 7
    assert LINES["train"]["linestyle"] != LINES["validation"]["linestyle"]
    assert len({str(style["linestyle"]) for style in study_figures.STYLES[:6]}) == 6
