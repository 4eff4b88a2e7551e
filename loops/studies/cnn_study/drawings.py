"""The study's pictures: which ones the runs at hand allow, and the numbers that each shows. Needs the extra `plots`."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from loops.data.dataset import Dataset
from loops.studies.cnn_study import findings, tables
from loops.studies.cnn_study.rows import PROTOCOLS, ROWS
from loops.studies.study import Result, mean_and_spread
from tfcore.inspect.figures import figures, study_figures
from tfcore.ops import activations

SAMPLES = 25
LEAKY_SLOPE, PRELU_SLOPE = 0.01, 0.08  # of the pictures; PReLU's as in the course's
FUNCTIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "ReLU": activations.relu,
    f"leaky ReLU,\nslope {LEAKY_SLOPE}": lambda x: activations.leaky_relu(x, LEAKY_SLOPE),
    f"PReLU,\nslope {PRELU_SLOPE}": lambda x: activations.prelu(x, tf.constant(PRELU_SLOPE, x.dtype)),
}


def pictures(results: Sequence[Result]) -> Iterator[tuple[str, study_figures.Figure]]:
    """Yield (file name without .png, picture) of all that the runs allow."""
    yield "activation-functions", activation_functions()
    for protocol in PROTOCOLS:
        own = [result for result in results if result.row.startswith(f"{protocol}/")]
        if own:
            for name, figure in _of_protocol(own, protocol):
                yield f"{protocol}/{name}", figure


def activation_functions() -> study_figures.Figure:
    """The activation functions and their derivatives over [−10, 10], by our operations and TensorFlow's tape."""
    x = tf.constant(np.linspace(-10, 10, 2002))  # an even number: 0, where some have no derivative, is left out
    curves = {}
    for name, function in FUNCTIONS.items():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        curves[name] = (y.numpy(), tape.gradient(y, x).numpy())
    title = "Activation functions (above) and their derivatives (below)"
    return study_figures.activation_functions(x.numpy(), curves, title=title)


def samples(dataset: Dataset) -> study_figures.Figure:
    """Random train images with the names of their classes; always the same ones."""
    split = dataset.train
    picked = np.random.default_rng(0).choice(len(split), size=min(SAMPLES, len(split)), replace=False)
    names = [dataset.class_names[label] for label in split.labels[picked]]
    title = f"{dataset.name}: {len(picked)} of {len(split):,} train images"
    return figures.image_grid(split.inputs[picked], names, title=title)


def _of_protocol(results: Sequence[Result], protocol: str) -> Iterator[tuple[str, study_figures.Figure]]:
    unseen = "test" if protocol == "published" else "validation"
    by_row: dict[str, list[Result]] = {}
    for row in ROWS:
        own = [result for result in results if result.row == f"{protocol}/{row}"]
        if own:
            by_row[row] = own
    histories = {row: [result.history for result in own] for row, own in by_row.items()}
    labels = {row: row + _unfinished(own) for row, own in by_row.items()}

    yield "accuracy-bars", accuracy_bars(results, protocol)
    for metric in ("accuracy", "loss"):
        title = f"{metric.capitalize()} of all rows ({protocol} protocol)"
        if metric == "loss":
            title += "\nlosses hold their penalty; a first epoch far above the rest is cut off"
        yield (
            f"all-{metric}",
            study_figures.all_curves(
                {labels[row]: own for row, own in histories.items()},
                metric,
                unseen=unseen,
                reference=labels.get("base"),
                title=title,
            ),
        )
    for row, own in by_row.items():
        published = ROWS[row].published if protocol == "published" else None
        yield (
            f"curves-{row}",
            study_figures.run_curves(
                histories[row],
                unseen=unseen,
                published=published and (ROWS[row].published_epoch, published[1], published[3]),
                title=f"{row}: {ROWS[row].change}{_unfinished(own)}",
            ),
        )
    yield from _insights(findings.first_of_each_row(results, protocol), unseen)


def accuracy_bars(results: Sequence[Result], protocol: str) -> study_figures.Figure:
    """Train and test accuracy of all rows that have begun."""
    lines = [tables.line(result) for result in results]
    bars = []
    for row in ROWS:
        own = [line for line in lines if line.row == row]
        finished = [line for line in own if line.finished]
        if finished:
            train = mean_and_spread([line.train_accuracy for line in finished])
            test = mean_and_spread([line.test_accuracy for line in finished if line.test_accuracy is not None])
            known = finished[0].published_test_accuracy if protocol == "published" else None
            bars.append(study_figures.Bar(row, train, test, known))
        elif own:
            bars.append(study_figures.Bar(row, note=tables.state(own[0])))
    which = "last epoch" if protocol == "published" else "epoch chosen on validation data"
    several = any(bar.test and bar.test[1] is not None for bar in bars)
    note = ", mean ± standard deviation over seeds" if several else ""
    return study_figures.accuracy_bars(bars, title=f"Accuracy, {which}{note} ({protocol} protocol)")


def _unfinished(results: Sequence[Result]) -> str:
    """What a title adds where a run has not come to its end."""
    states = [tables.state(tables.line(result)) for result in results if not result.finished]
    if len(states) > 1:
        return f" ({len(states)} runs not finished)"
    return f" ({states[0]})" if states else ""


def _insights(rows: dict[str, Result], unseen: str) -> Iterator[tuple[str, study_figures.Figure]]:
    """What happens inside: pictures of the columns that `loops.health.diagnostics` adds to the history."""
    flow = {name: _lines(rows[row], "gradient_norm") for row, name in findings.ACTIVATION_ROWS.items() if row in rows}
    flow = {name: lines for name, lines in flow.items() if lines}
    if flow:
        title = "Gradient norm of each layer's kernel, mean over the epoch's steps"
        yield "gradient-norms", study_figures.line_panels(flow, ylabel="gradient norm", title=title, log=True)
    for name, pair, kind, ylabel, title in (
        ("weight-norms", ("base", "l2"), "weight_norm", "norm", "Norms of the conv kernels without and with L2"),
        (
            "near-zero-weights",
            ("base", "l1", "l2"),
            "near_zero",
            "share",
            "Share of the conv kernels' weights below 0.001 in magnitude",
        ),
    ):
        found = {row: _lines(rows[row], kind, "convolutions") for row in pair if row in rows}
        if found.get("base") and found.get(pair[1]):
            layers = {layer: {row: lines[layer] for row, lines in found.items()} for layer in found["base"]}
            yield name, study_figures.line_panels(layers, ylabel=ylabel, title=title)
    if "batch_norm" in rows and findings.columns(rows["batch_norm"], "moving_rms"):
        yield "batch-norm-statistics", _drift(rows["batch_norm"], unseen)


def _drift(result: Result, unseen: str) -> study_figures.Figure:
    epochs = [epoch["epoch"] for epoch in result.history]
    panels: dict[str, dict] = {heading: {} for heading in ("running mean (RMS)", "running variance (RMS)")}
    for path, values in findings.columns(result, "moving_rms").items():
        heading = f"running {path.split('moving_')[1]} (RMS)"
        panels[heading][findings.short_name(path)] = (epochs, values)
    panels["accuracy"] = {
        label: (epochs, [epoch[column] for epoch in result.history])
        for label, column in (("train accuracy", "accuracy"), (f"{unseen} accuracy", "val_accuracy"))
    }
    return study_figures.line_panels(
        panels,
        ylabel="",
        title="Batch norm's running statistics (start: mean 0, variance 1) and what they do to the accuracy",
        sharey=False,
    )


def _lines(result: Result, kind: str, layers: str = "") -> dict[str, tuple[list[int], list[float]]]:
    epochs = [epoch["epoch"] for epoch in result.history]
    return {layer: (epochs, values) for layer, values in findings.kernels(result, kind, layers).items()}
