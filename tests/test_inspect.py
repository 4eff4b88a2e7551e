"""Figures and the parameter table: the numbers they show, and that all of it can be read."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

from loops import recipes
from loops.data import SIZES
from loops.run.restore import fresh_model
from tests.support.pictures import LONG, check_texts
from tfcore.inspect.figures import figures
from tfcore.inspect.pages.parameters import count_parameters, parameter_table


def _history(epochs, scale=1.0, top_5=False):
    more = {"top_5_accuracy": 0.8, "val_top_5_accuracy": 0.7} if top_5 else {}
    return [
        {
            **{column: value - 0.5 / epoch for column, value in more.items()},
            "epoch": epoch,
            "loss": scale * 2 / epoch,
            "accuracy": 0.5 - 0.4 / epoch,
            "val_loss": scale * 2.2 / epoch,
            "val_accuracy": 0.4 - 0.3 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def test_tap_sums():
    kernel = np.random.default_rng(0).normal(size=(2, 3, 5, 49, 1, 7)).astype(np.float32)
    maps = figures.tap_sums(kernel)
    assert maps.shape == (2, 3, 5)
    for index in np.ndindex(2, 3, 5):
        expected = sum(float(kernel[*index, tap, 0, group]) for tap in range(49) for group in range(7)) / 7
        assert maps[index] == pytest.approx(expected, abs=1e-4)
    half = tf.ones((1, 2, 3, 289, 1, 1), tf.bfloat16).numpy()  # which has no number 289
    np.testing.assert_array_equal(figures.tap_sums(half), np.full((1, 2, 3), 289, np.float32))


def test_a_column_of_heatmaps_has_one_scale():
    maps = [np.linspace(start, 1, 3 * 4 * 4).reshape(3, 4, 4) for start in (0, -7)] + [np.full((3, 2, 2), 5.0)]
    figure = figures.kernel_heatmaps(np.zeros((3, 8, 8, 3), np.uint8), maps, names=["a", "b", "c"])
    figure.draw_without_rendering()
    scales = [panel.images[0].get_clim() for panel in figure.axes if panel.images][3:]
    for column, heat in enumerate(maps[:2]):
        assert scales[3 * column : 3 * column + 3] == [pytest.approx(np.percentile(heat, (5, 95)))] * 3
    assert len(set(scales[6:])) == 1 and scales[6][0] < 5 < scales[6][1]


@pytest.mark.parametrize("count", range(1, 8))
def test_curves_show_the_histories_on_common_axes(count):
    histories = {f"run {number}": _history(number + 1, scale=number + 1) for number in range(count)}
    figure = figures.curves(histories)
    losses, accuracies = figure.axes[::2], figure.axes[1::2]
    assert [panel.get_title() for panel in losses] == list(histories)
    for panel, rows in zip(losses, histories.values(), strict=True):
        for line, column in zip(panel.lines, ("loss", "val_loss"), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), [row[column] for row in rows])
    for panel, rows in zip(accuracies, histories.values(), strict=True):
        for line, column in zip(panel.lines, ("accuracy", "val_accuracy"), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), [row[column] for row in rows])
    for group in (losses, accuracies):
        assert len({panel.get_ylim() for panel in group}) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "validation"]


def test_curves_of_top_5_accuracy():
    histories = {"inn": _history(4), "vit": _history(40, top_5=True), "a": _history(5), "b": _history(6)}
    figure = figures.curves(histories)
    panels = iter(figure.axes)
    for name, metrics in (("inn", 2), ("vit", 3), ("a", 2), ("b", 2)):
        own = [next(panels) for _ in range(metrics)]
        assert [panel.get_xlabel() for panel in own] == [""] * (metrics - 1) + ["epoch"]
        for panel, metric in zip(own, ("loss", "accuracy", "top_5_accuracy"), strict=False):
            for line, column in zip(panel.lines, (metric, f"val_{metric}"), strict=True):
                np.testing.assert_array_equal(line.get_ydata(), [row[column] for row in histories[name]])
    assert next(panels, None) is None
    labelled = [panel.get_ylabel() for panel in figure.axes if panel.get_ylabel()]
    assert labelled == ["loss", "accuracy", "top-5 accuracy", "loss", "accuracy"]  # the second band has no top-5
    top_5 = figure.axes[4]
    assert top_5.get_title() == "best validation 0.6875, epoch 40"
    assert check_texts(figure) >= 30


@pytest.mark.parametrize(
    "figure",
    [
        figures.curves({f"{LONG} {number}": _history(100) for number in range(6)}, title=LONG),
        figures.curves({LONG: _history(100, top_5=True)}, title=LONG),
        figures.image_grid(
            np.zeros((7, 8, 8, 3), np.uint8), ["hourglass on antidiagonal"] * 6 + [r"$\strange$"], title=LONG
        ),
        figures.kernel_heatmaps(
            np.zeros((3, 8, 8, 3), np.uint8),
            [np.arange(48.0).reshape(3, 4, 4) * scale for scale in (1, 1e-6, 1e6)],
            names=["hourglass on antidiagonal"] * 3,
            title=LONG,
        ),
    ],
    ids=["curves", "top_5", "image_grid", "kernel_heatmaps"],
)
def test_no_texts_overlap_or_leave_the_picture(figure):
    assert check_texts(figure) >= 8


@pytest.mark.parametrize(
    ("name", "total", "trained_count"), [("convnet_cifar10", 319_178, 319_178), ("inn_cifar10", 13_080, 13_074)]
)
def test_parameter_table(name, total, trained_count):
    model = fresh_model(recipes.get(name), SIZES["cifar10"])
    assert count_parameters(model) == (total, trained_count)
    lines = parameter_table(model).splitlines()
    sums = {line.rsplit(None, 1)[0]: line.split()[-1] for line in lines[-3:]}
    assert sums == {
        "total": f"{total:,}",
        "trained": f"{trained_count:,}",
        "not trained": f"{total - trained_count:,}",
    }
    end = lines[0].index("parameters") + len("parameters")
    counts = [int(line[:end].split()[-1].replace(",", "")) for line in lines[2:-4]]
    layers = [count for line, count in zip(lines[2:-4], counts, strict=True) if not line.startswith(" ")]
    assert sum(layers) == total  # the layers add up
    variables = [count for line, count in zip(lines[2:-4], counts, strict=True) if "(" in line]
    assert variables == [int(np.prod(variable.shape)) for variable in model.named_variables().values()]


def test_parameter_table_of_layers_and_trained():
    lines = parameter_table(fresh_model(recipes.get("inn_cifar10"), SIZES["cifar10"])).splitlines()
    rows = [line.split() for line in lines]
    assert ["involutions/1", "26", "0.2", "%", "24", "of", "26"] in rows
    assert ["norm", "4", "2", "of", "4"] in rows
    assert ["moving_mean", "(1,)", "1", "no"] in rows
    assert ["kernel", "(192,", "64)", "12,288", "yes"] in rows
    assert ["hidden", "12,352", "94.4", "%", "yes"] in rows


def test_series_grid_draws_each_series_below_its_title_on_common_axes():
    series = np.random.default_rng(0).standard_normal((7, 13))
    figure = figures.series_grid(series, [f"class {i}" for i in range(7)], title="some series")
    panels = figure.axes
    assert len(panels) == 10 and not any(panel.axison for panel in panels[7:])
    for panel, values, i in zip(panels, series, range(7), strict=False):
        np.testing.assert_array_equal(panel.lines[0].get_ydata(), values)
        assert panel.get_title() == f"class {i}" and panel.get_ylim() == panels[0].get_ylim()
    assert figure.get_suptitle() == "some series"


@pytest.mark.parametrize(
    ("old", "room"),
    [
        ("comparison", "profile"),
        ("compiler", "profile"),
        ("step_profile", "profile"),
        ("kernel_page", "pages"),
        ("kernel_report", "pages"),
    ],
)
def test_paths_of_before_the_rooms_lead_to_the_same(old, room):
    before = importlib.import_module(f"tfcore.inspect.{old}")
    now = importlib.import_module(f"tfcore.inspect.{room}.{old}")
    assert before.__all__
    assert all(getattr(before, name) is getattr(now, name) for name in before.__all__)
